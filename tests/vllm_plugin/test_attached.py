"""What an engine may have attached, decided before a process starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from safesight import registry
from safesight.defenses import load_defense
from safesight.defenses.reference import with_reference
from safesight.errors import ArtifactError, InputError, SafesightError, UnknownNameError
from safesight.fitting.artifact import Artifact
from safesight.fitting.bundled import bundled, place_in
from safesight.fitting.reference import KEY
from safesight.models import VLM
from safesight.vllm.about import fingerprint
from safesight.vllm.attached import attached
from safesight.vllm.host import Facts
from safesight.vllm.settings import Settings
from safesight.vllm.wanted import wanted_of

INSIDE = ("probe", "sasa", "hidden_detect", "rai", "refusal_direction", "tool_vector")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: Any) -> dict[str, Path]:
    vlm, place = VLM.load("testbed"), tmp_path_factory.mktemp("artifacts")
    return {
        name: with_reference(vlm, load_defense(name), bundled(name, vlm)).save(place / name)
        for name in INSIDE
    }


def facts(**changes: Any) -> Facts:
    vlm = VLM.load("testbed")
    text = SimpleNamespace(
        num_hidden_layers=changes.get("layers", vlm.num_layers),
        hidden_size=changes.get("width", vlm.hidden_size),
        vocab_size=vlm.vocab_size,
    )
    return Facts(
        SimpleNamespace(
            hf_text_config=text,
            served_model_name=None,
            model=changes.get("model", "testbed"),
            dtype=changes.get("dtype", torch.float32),
        )
    )


def settings(*entries: Any, **more: Any) -> Settings:
    named = [each if isinstance(each, dict) else {"name": each} for each in entries]
    return Settings.model_validate({"defenses": named, **more})


def entry(folders: dict[str, Path], name: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "artifact": folders[name], **config}


@pytest.mark.parametrize("name", INSIDE)
def test_what_reads_or_changes_states_runs_inside(folders: dict[str, Path], name: str) -> None:
    found = attached(settings(entry(folders, name)), facts())
    assert [*found.detectors, *found.edits] == [name]
    assert list(found.references()) == [name]
    artifact = Artifact.load(folders[name])
    assert found.fingerprints == {name: fingerprint(load_defense(name), artifact)}


@pytest.mark.parametrize("name", sorted(set(registry.names("defense")) - {*INSIDE, "none"}))
def test_anything_else_is_refused_by_name(name: str) -> None:
    kind = registry.load("defense", name)
    with pytest.raises(SafesightError, match=name) as caught:
        attached(settings(name), facts())
    if not kind.fitted or kind.kind != "activation":
        assert isinstance(caught.value, InputError)


def test_none_is_an_engine_without_defenses() -> None:
    found = attached(settings("none"), facts())
    assert (found.detectors, found.edits, found.fingerprints) == ({}, {}, {})
    assert found.shares_prefixes(per_request=True)


def test_a_misspelled_defense() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'sasa'"):
        attached(settings("sassa"), facts())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": torch.bfloat16}, "was fitted in float32, and the engine runs in bfloat16"),
        ({"width": 64}, "does not hold 'weight'"),
    ],
)
def test_an_artifact_of_another_model(folders, changes: Any, words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        attached(settings(entry(folders, "probe")), facts(**changes))


def test_an_artifact_without_a_reference(tmp_path: Path) -> None:
    plain = bundled("probe", VLM.load("testbed"))
    card = {name: value for name, value in plain.card.items() if name != KEY}
    folder = replace(plain, card=card).save(tmp_path / "probe")
    with pytest.raises(ArtifactError, match="safesight reference"):
        attached(settings({"name": "probe", "artifact": folder}), facts())


def test_the_artifacts_of_the_package_are_for_its_model_alone() -> None:
    with pytest.raises(ArtifactError, match="probe has no bundled artifact for 'checkpoints/npo'"):
        attached(settings("probe"), facts(model="checkpoints/npo"))
    with pytest.raises(ArtifactError, match="safesight fit probe --model checkpoints/npo"):
        wanted_of({"probe": None}, "checkpoints/npo")
    folder = str(registry.load("model", "testbed"))
    (found,) = wanted_of({"probe": None}, folder).inside
    assert found.artifact == place_in("testbed", "probe")
    assert wanted_of({"npo": None}, "checkpoints/npo").inside  # whose kind is refused later


def test_what_to_do_instead_is_up_to_who_asks(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"ecso asks .*: use `safesight serve` on transformers\.$"):
        attached(settings("ecso"), facts())
    eval_says = "leave out --engine vllm"
    for each in (settings("ecso"), settings(entry(folders, "rai"), entry(folders, "probe"))):
        with pytest.raises(InputError, match=f"{eval_says}\\.$"):
            attached(each, facts(), eval_says)


def test_a_detector_behind_an_edit_is_refused(folders: dict[str, Path]) -> None:
    both = settings(entry(folders, "rai"), entry(folders, "probe"))
    with pytest.raises(InputError, match="probe reads states that rai changes"):
        attached(both, facts())


def test_the_same_defense_twice(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="'probe' is named twice"):
        attached(settings(entry(folders, "probe"), entry(folders, "probe")), facts())


@pytest.mark.parametrize(
    ("name", "per_request", "shared"),
    [
        ("probe", True, True),
        ("hidden_detect", True, True),
        ("sasa", False, False),
        ("rai", False, True),
        ("rai", True, False),
        ("tool_vector", False, False),
    ],
)
def test_who_may_share_cached_prefixes(folders, name: str, per_request: bool, shared: bool) -> None:
    found = attached(settings(entry(folders, name)), facts())
    assert found.shares_prefixes(per_request=per_request) is shared
