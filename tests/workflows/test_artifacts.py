"""Which artifact goes to which defense, and what is fitted because nobody gave it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safesight import ranks, registry
from safesight.defenses import Artifact
from safesight.errors import ArtifactError, InputError
from safesight.hosting.arms import artifacts_for, build_arm
from safesight.workflows.artifacts import FitPlan, artifacts_of, fit_missing
from tests import tiny
from tests.contracts.defense_helpers import fitted

PLAN = FitPlan(pool=60, share=0.3, calibration=6)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("artifacts")
    return {name: fitted(name, "llava").save(place / name) for name in ("probe", "sasa")}


def test_an_arm_of_two_fitted_defenses_is_given_both(folders: dict[str, Path]) -> None:
    arms = ["probe", "probe+sasa"]
    given = artifacts_of(list(folders.values()), arms)
    assert given == folders
    vlm = tiny.vlm("llava")
    both = build_arm(vlm, "probe+sasa", artifacts_for("probe+sasa", given))
    found = [artifact.hash for _, artifact in both.defenses if artifact]
    assert found == [fitted(name, "llava").hash for name in ("probe", "sasa")]
    assert build_arm(vlm, "probe", artifacts_for("probe", given)).defenses[0][1].hash == found[0]


def test_two_artifacts_of_one_defense_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ArtifactError, match="'probe' was given two artifacts"):
        artifacts_of([folders["probe"], folders["probe"]], ["probe+sasa"])


def test_only_what_is_missing_is_fitted(folders: dict[str, Path], tmp_path: Path) -> None:
    vlm = tiny.vlm("llava")
    said: list[str] = []
    given = {"sasa": folders["sasa"]}

    def places() -> dict[str, Path]:
        arms = ["none", "safety_prompt", "probe+sasa", "sasa"]
        return fit_missing(vlm, arms, given, tmp_path, plan=PLAN, fit_on="bundled", say=said.append)

    assert places() == {"sasa": folders["sasa"], "probe": tmp_path / "probe"}
    assert Artifact.load(tmp_path / "probe").defense == "probe"
    assert len(said) == 1
    places()  # what was fitted before is used
    assert len(said) == 1
    arms, again = ["probe", "sasa"], replace(PLAN, seed=PLAN.seed + 1)
    fit_missing(vlm, arms, given, tmp_path, plan=again, fit_on="bundled", say=said.append)
    assert len(said) == 2, "with another seed it is another fit"
    other = tiny.vlm("qwen3_vl")
    with pytest.raises(ArtifactError, match="was fitted on"):
        fit_missing(other, ["sasa"], given, tmp_path, plan=PLAN, say=said.append)


def test_no_other_model_is_fitted_on_the_bundled_world_unasked(tmp_path: Path) -> None:
    vlm = tiny.vlm("llava")
    with pytest.raises(InputError, match="--fit-on bundled"):
        fit_missing(vlm, ["none", "probe"], {}, tmp_path, plan=PLAN, say=print)
    assert not list(tmp_path.iterdir())


def test_what_trains_is_not_fitted_by_several_processes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "place", lambda: ranks.Place(0, 2, 0, 2))
    monkeypatch.setattr(ranks, "agreed", lambda value: value)
    with pytest.raises(InputError, match=r"depends on their number\. Fit it beforehand"):
        fit_missing(
            tiny.vlm("llava"), ["npo"], {}, tmp_path, plan=PLAN, fit_on="bundled", say=print
        )


def test_a_model_of_another_package_is_a_strangers_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = tiny.vlm("llava")
    monkeypatch.setattr(vlm, "name", "theirs")
    names = registry.names

    def with_theirs(kind: registry.Kind, *, builtin: bool = False) -> list[str]:
        found = list(names(kind, builtin=builtin))
        return found if builtin or kind != "model" else [*found, "theirs"]

    monkeypatch.setattr(registry, "names", with_theirs)
    with pytest.raises(InputError, match="--fit-on bundled"):
        fit_missing(vlm, ["probe"], {}, tmp_path, plan=PLAN, say=print)
