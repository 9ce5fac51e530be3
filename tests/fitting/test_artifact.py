"""Artifacts: all or nothing on disk, and nothing damaged comes back."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from safesight.defenses import Artifact
from safesight.errors import ArtifactError, StorageError


@pytest.fixture
def artifact() -> Artifact:
    return Artifact(
        "sasa",
        {"eps": 1e-6},
        {"layers": [1, 2], "threshold": 0.25},
        {"weight": torch.arange(6.0), "bias": torch.tensor([0.5])},
        {"model": {"name": "m", "identity": "ab" * 32}, "seed": 3},
    )


def same(one: Artifact, two: Artifact) -> bool:
    tensors = one.tensors.keys() == two.tensors.keys() and all(
        torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors
    )
    return tensors and (one.config, one.fitted, one.card) == (two.config, two.fitted, two.card)


def test_round_trip_and_replacement(artifact: Artifact, tmp_path: Path) -> None:
    folder = artifact.save(tmp_path / "deep" / "a")
    assert sorted(p.name for p in folder.iterdir()) == [
        "card.json",
        "config.json",
        "tensors.safetensors",
    ]
    assert same(Artifact.load(folder), artifact)
    other = Artifact("none", {})
    other.save(folder)
    assert same(Artifact.load(folder), other)
    assert [p.name for p in folder.parent.iterdir()] == ["a"], "nothing else is left behind"


def test_hash_covers_what_changes_answers(artifact: Artifact) -> None:
    changes: list[dict[str, Any]] = [
        {"defense": "probe"},
        {"config": {"eps": 1e-5}},
        {"fitted": {"layers": [1, 2], "threshold": 0.26}},
        {"tensors": {**artifact.tensors, "bias": torch.tensor([0.75])}},
        {"tensors": {"weight": artifact.tensors["weight"]}},
        {"card": {"model": {"identity": "cd" * 32}}},
    ]
    hashes = {Artifact(**{**vars(artifact), **change}).hash for change in changes}
    assert len(hashes | {artifact.hash}) == len(changes) + 1
    same_model = {**artifact.card, "seed": 4}
    assert Artifact(**{**vars(artifact), "card": same_model}).hash == artifact.hash


def rewrite_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGE = {
    "no config": lambda f: (f / "config.json").unlink(),
    "no card": lambda f: (f / "card.json").unlink(),
    "no tensors": lambda f: (f / "tensors.safetensors").unlink(),
    "torn tensors": lambda f: (f / "tensors.safetensors").write_bytes(
        (f / "tensors.safetensors").read_bytes()[:-7]
    ),
    "changed tensors": lambda f: (f / "tensors.safetensors").write_bytes(
        (f / "tensors.safetensors").read_bytes()[:-1] + b"\x01"
    ),
    "a pickle": lambda f: (f / "tensors.safetensors").write_bytes(pickle.dumps({"weight": 1})),
    "torn config": lambda f: (f / "config.json").write_text('{"format": 2, "def'),
    "config not text": lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
    "unknown key": lambda f: rewrite_json(f / "config.json", extra=1),
    "newer format": lambda f: rewrite_json(f / "config.json", format=3),
    "tensors not listed": lambda f: rewrite_json(f / "config.json", tensors={"weight": "0"}),
    "oversized config": lambda f: rewrite_json(f / "config.json", config={"x": "y" * 2_000_000}),
    "card is a list": lambda f: (f / "card.json").write_text("[]"),
    "a list for a config": lambda f: (f / "config.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_folders_are_refused(damage: str, artifact: Artifact, tmp_path: Path) -> None:
    folder = artifact.save(tmp_path / "a")
    DAMAGE[damage](folder)
    with pytest.raises(ArtifactError, match=str(folder)) as caught:
        Artifact.load(folder)
    assert "\n" not in str(caught.value)


def test_the_format_before_the_settings_were_renamed_is_refused_by_name(
    artifact: Artifact, tmp_path: Path
) -> None:
    folder = artifact.save(tmp_path / "a")
    rewrite_json(folder / "config.json", format=1, config={"eps": 1e-6, "strength": 1})
    with pytest.raises(ArtifactError) as caught:
        Artifact.load(folder)
    assert str(caught.value) == (
        f"The artifact at {folder} has format 1, but this version of safesight reads format 2. "
        f"Fit it again: safesight fit sasa -o {folder}"
    )


@pytest.mark.parametrize("place", ["missing", "file"])
def test_missing_folders_are_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="safesight fit"):
        Artifact.load(tmp_path / place)


def test_folders_of_others_are_left_alone(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StorageError, match="not an artifact"):
        artifact.save(tmp_path)
    with pytest.raises(StorageError):
        artifact.save(tmp_path / "thesis.txt")
    with pytest.raises(StorageError):
        artifact.save(tmp_path / "thesis.txt" / "below")
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    artifact.save(tmp_path / "empty")


def test_a_failed_save_leaves_the_old_artifact(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = artifact.save(tmp_path / "a")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for target in ("safesight.fitting.artifact.save_file", "pathlib.Path.write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(target, full)
            with pytest.raises(StorageError, match="space"):
                Artifact("sasa", {}, tensors={"weight": torch.ones(1)}).save(folder)
            with pytest.raises(StorageError, match="space"):
                Artifact("sasa", {}, tensors={"weight": torch.ones(1)}).save(tmp_path / "b")
    assert same(Artifact.load(folder), artifact)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("stop", "seen"), [(OSError("full"), StorageError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_rename_that_fails_half_way_is_undone(
    artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: BaseException,
    seen: type[BaseException],
) -> None:
    import os

    folder, real = artifact.save(tmp_path / "a"), os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(source).name == "new":
            raise stop
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(seen):
        Artifact("none", {}).save(folder)
    assert same(Artifact.load(folder), artifact)


def test_numbers_that_are_not_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Artifact("sasa", {}, {"threshold": float("nan")}).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()
