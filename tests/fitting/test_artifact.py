"""Artifacts: all or nothing on disk, and nothing damaged comes back."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from safesight.defenses import Artifact
from safesight.errors import ArtifactError, StorageError
from tests import tiny


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


def drop_from_json(path: Path, name: str) -> None:
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != name})
    )


def rewrite_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite_tensors(path: Path, **changes: torch.Tensor) -> None:
    save_file({**load_file(path), **changes}, path)


def replace_by(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


CONFIG, CARD, TENSORS = "config.json", "card.json", "tensors.safetensors"
EDITED = "settings, numbers or card have changed"
DEEP = '{"a":' * 100_000
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / CONFIG).unlink(), "it has no config.json"),
    "no card": (lambda f: (f / CARD).unlink(), ": card.json: No such file"),
    "no tensors": (lambda f: (f / TENSORS).unlink(), "No such file"),
    "torn tensors": (
        lambda f: (f / TENSORS).write_bytes((f / TENSORS).read_bytes()[:-7]),
        "deserializing",
    ),
    "changed tensors": (
        lambda f: (f / TENSORS).write_bytes((f / TENSORS).read_bytes()[:-1] + b"\x01"),
        "tensors have changed",
    ),
    "another tensor": (
        lambda f: rewrite_tensors(f / TENSORS, more=torch.ones(1)),
        "tensors have changed",
    ),
    "a pickle": (
        lambda f: (f / TENSORS).write_bytes(pickle.dumps({"weight": 1})),
        "deserializing",
    ),
    "torn config": (lambda f: (f / CONFIG).write_text('{"format": 3, "def'), "Unterminated"),
    "config not text": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), "utf-8"),
    "unknown key": (lambda f: rewrite_json(f / CONFIG, extra=1), "invalid extra"),
    "newer format": (lambda f: rewrite_json(f / CONFIG, format=4), "invalid format"),
    "a truth for a format": (lambda f: rewrite_json(f / CONFIG, format=True), "invalid format"),
    "no format": (lambda f: drop_from_json(f / CONFIG, "format"), "invalid format"),
    "no digest": (lambda f: drop_from_json(f / CONFIG, "digest"), "invalid digest"),
    "tensors not listed": (lambda f: rewrite_json(f / CONFIG, tensors={"weight": "0"}), EDITED),
    "another defense": (lambda f: rewrite_json(f / CONFIG, defense="probe"), EDITED),
    "another setting": (lambda f: rewrite_json(f / CONFIG, config={"eps": 1}), EDITED),
    "a threshold out of reach": (
        lambda f: rewrite_json(f / CONFIG, fitted={"threshold": 1e9}),
        EDITED,
    ),
    "another model": (lambda f: rewrite_json(f / CARD, model={"identity": "cd" * 32}), EDITED),
    "no model": (lambda f: drop_from_json(f / CARD, "model"), EDITED),
    "another seed": (lambda f: rewrite_json(f / CARD, seed=4), EDITED),
    "a number for an identity": (
        lambda f: rewrite_json(f / CARD, model={"identity": 5}),
        "invalid model.identity",
    ),
    "a list for a model": (lambda f: rewrite_json(f / CARD, model=[]), "invalid model"),
    "oversized config": (
        lambda f: rewrite_json(f / CONFIG, config={"x": "y" * 2_000_000}),
        "larger than 1 MB",
    ),
    "card is a list": (lambda f: (f / CARD).write_text("[]"), "card.json is not a JSON object"),
    "a list for a config": (lambda f: (f / CONFIG).write_text("[]"), "config.json is not a JSON"),
    "a deep config": (lambda f: (f / CONFIG).write_text(DEEP), "levels deep"),
    "a deep card": (
        lambda f: (f / CARD).write_text('{"a":' * 50 + "1" + "}" * 50),
        "card.json is nested more than 32 levels deep",
    ),
    "not a number": (lambda f: rewrite_json(f / CONFIG, fitted={"x": math.nan}), "NaN is not"),
    "too large a number": (
        lambda f: (f / CONFIG).write_text((f / CONFIG).read_text().replace("0.25", "1e999")),
        "Out of range",
    ),
    "not as many tensors as bytes": (
        lambda f: os.truncate(f / "tensors.safetensors", 5 << 30),
        "file not fully covered",  # of a model of billions: no size is too large
    ),
    "a pipe": (lambda f: replace_by(f / CARD, os.mkfifo), "not a regular file"),
    "a pipe for tensors": (lambda f: replace_by(f / TENSORS, os.mkfifo), "not a regular file"),
    "an endless file": (
        lambda f: replace_by(f / CONFIG, lambda path: path.symlink_to("/dev/zero")),
        "not a regular file",
    ),
    "a folder": (lambda f: replace_by(f / CONFIG, Path.mkdir), "not a regular file"),
}
"""What was done to a folder, and what the error says of it."""


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_folders_are_refused(damage: str, artifact: Artifact, tmp_path: Path) -> None:
    folder = artifact.save(tmp_path / "a")
    do, said = DAMAGE[damage]
    do(folder)
    with pytest.raises(ArtifactError, match=str(folder)) as caught:
        Artifact.load(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_links_to_files_are_followed(artifact: Artifact, tmp_path: Path) -> None:
    """A cache of downloads keeps files elsewhere."""
    folder = artifact.save(tmp_path / "a")
    (tmp_path / "linked").mkdir()
    for file in folder.iterdir():
        (tmp_path / "linked" / file.name).symlink_to(file)
    assert same(Artifact.load(tmp_path / "linked"), artifact)


def test_keys_that_json_turns_into_text_leave_the_digest_alone(tmp_path: Path) -> None:
    card = {"candidates": {2: 0.5, 10: 0.75}, "pair": (1, 2)}
    folder = Artifact("sasa", {}, card=card).save(tmp_path / "a")
    assert Artifact.load(folder).card == {"candidates": {"2": 0.5, "10": 0.75}, "pair": [1, 2]}


@pytest.mark.parametrize("card", [{}, {"model": {}}, {"model": {"identity": ""}}, {"model": 5}])
def test_a_card_that_names_no_model_fits_no_model(card: dict[str, Any], artifact: Artifact) -> None:
    vlm = tiny.vlm("llava")
    with pytest.raises(ArtifactError, match=r"does not say which model .* safesight fit sasa"):
        replace(artifact, card=card).check_model(vlm)


@pytest.mark.parametrize("extra", [{}, {"name": None, "dtype": None}])
def test_another_model_is_refused_whatever_else_the_card_says(
    extra: dict[str, Any], artifact: Artifact
) -> None:
    card = {"model": {"identity": "ab" * 32, **extra}}
    with pytest.raises(ArtifactError, match="was fitted on 'a model' \\(abababababab\\), not on"):
        replace(artifact, card=card).check_model(tiny.vlm("llava"))


@pytest.mark.parametrize("older", [1, 2])
def test_an_older_format_is_refused_by_name(older: int, artifact: Artifact, tmp_path: Path) -> None:
    folder = artifact.save(tmp_path / "a")
    rewrite_json(folder / "config.json", format=older, config={"eps": 1e-6, "strength": 1})
    with pytest.raises(ArtifactError) as caught:
        Artifact.load(folder)
    assert str(caught.value) == (
        f"The artifact at {folder} has format {older}, but this version of safesight reads format "
        f"3. Fit it again: safesight fit sasa -o {folder}"
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
