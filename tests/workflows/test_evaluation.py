"""What an evaluation keeps beside its logs, and what it warns of; no model is run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from safesight.compare import Overhead
from safesight.defenses import Artifact, load_defense
from safesight.errors import InputError
from safesight.hosting.arms import Arm
from safesight.workflows import evaluation, remarks
from safesight.workflows.artifacts import FitOn
from safesight.workflows.evaluation import Engine, Evaluation
from tests import tiny
from tests.report.fakes import card


def arm(name: str, data: str | None = None) -> Arm:
    """An arm of a name, whose last defense was fitted on such data."""
    parts = [load_defense(part) for part in name.split("+")]
    fitted = Artifact(parts[-1].name, {}, card={"data": {"hash": data}}) if data else None
    return Arm(name, tuple((each, fitted if each is parts[-1] else None) for each in parts), name)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices on which overhead was measured."""
    devices: list[str] = []

    def measured(vlm: Any, arms: list[Arm], *_: Any) -> list[Overhead]:
        devices.append(vlm.device)
        (cost,) = card().overhead
        names = [arm.name for arm in arms if arm.name != "none"]
        return [cost.model_copy(update={"defense": name}) for name in names]

    monkeypatch.setattr(evaluation, "measured_overhead", measured)
    return devices


@pytest.mark.parametrize(
    ("changed", "again"),
    [({}, False), ({"identity": "bf16 or new weights"}, True), ({"device": "cuda:0"}, True)],
)
def test_overhead_of_another_model_or_device_is_measured_again(
    timed: list[str], tmp_path: Path, changed: dict[str, str], again: bool
) -> None:
    wanted = Evaluation("testbed", ["none", "safety_prompt"], ["vqa"], tmp_path)
    arms = [arm("none"), arm("safety_prompt")]
    for vlm in (
        {"identity": "f32", "device": "cpu"},
        {"identity": "f32", "device": "cpu", **changed},
    ):
        about = evaluation._About(vlm["identity"])
        evaluation._note(wanted, SimpleNamespace(**vlm), arms, 0.0, about)  # type: ignore[arg-type]
    assert len(timed) == 1 + again


def test_a_control_that_was_fitted_on_other_data_is_reported() -> None:
    arms = [arm("none"), arm("probe", "x"), arm("sasa", "y")]
    (warning,) = remarks._unlike_controls(arms)
    assert "The control arm probe was fitted on different data than sasa." in warning
    assert "\n" not in warning


@pytest.mark.parametrize(
    "arms",
    [
        [arm("none"), arm("probe", "x"), arm("sasa", "x")],
        [arm("safety_prompt+probe", "x"), arm("safety_prompt+sasa", "x")],
        [arm("none"), arm("sasa", "x")],
        [arm("none"), arm("rai", "x"), arm("safety_prompt")],
    ],
)
def test_arms_fitted_alike_need_no_warning(arms: list[Arm]) -> None:
    assert not list(remarks._unlike_controls(arms))


@pytest.mark.parametrize(
    ("asked", "fit_on", "url", "left"),
    [
        (["sasa"], None, None, ["none", "sasa"]),
        (["sasa", "probe"], None, None, ["none", "probe", "sasa"]),
        (None, None, None, ["none", "probe", "sasa"]),
        (["sasa"], "bundled", None, ["none", "probe", "sasa"]),
        (["sasa"], "bundled", "http://a.example", ["none", "sasa"]),
    ],
)
def test_a_control_that_nobody_asked_for_is_left_out_if_it_cannot_run(
    asked: list[str] | None,
    fit_on: FitOn | None,
    url: str | None,
    left: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arms = ["none", "probe", "sasa"]
    engine = Engine("vllm" if url else "transformers", url)
    wanted = Evaluation(
        "theirs", arms, ["vqa"], tmp_path, fit_on=fit_on, asked=asked, engine=engine
    )
    found = evaluation._arms_that_can_run(wanted, tiny.vlm("llava"), {"sasa": tmp_path})
    assert found == left
    assert ("The control arm probe is left out" in capsys.readouterr().err) == (left != arms)


def without(name: str, **held_out: list[str]) -> Arm:
    """An arm whose fit held some facts out."""
    fitted = Artifact(name, {}, card={"data": {"hash": "x", "held_out": held_out}})
    return Arm(name, ((load_defense(name), fitted),), name)


@pytest.mark.parametrize(
    ("arm_", "only", "says"),
    [
        (without("probe"), {}, None),
        (arm("none"), {"category": ["weapon"]}, None),
        (without("probe", category=["weapon"]), {"category": ["weapon"]}, None),
        (without("probe", category=["weapon"]), {}, "fitted without category=weapon"),
        (without("probe"), {"category": ["weapon"]}, "fitted with samples of category=weapon"),
        (without("probe", concept=["bomb"]), {"concept": ["bomb", "axe"]}, "concept=bomb,axe"),
        (arm("probe", "x"), {"category": ["weapon"]}, "--hold-out"),
    ],
)
def test_a_fit_that_saw_what_it_is_tested_on_is_reported(
    arm_: Arm, only: dict[str, list[str]], says: str | None
) -> None:
    warnings = list(remarks._seen([arm_], only))
    assert len(warnings) == (says is not None)
    assert says is None or says in warnings[0]


def test_a_task_without_the_facts_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    wanted = Evaluation("no such model", ["none"], ["vqa"], tmp_path, only={"category": ["wepon"]})
    with pytest.raises(InputError, match="No sample of vqa has category=wepon"):
        evaluation.evaluate(wanted)
