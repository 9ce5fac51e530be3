"""Rows to train on: apart from what is evaluated, and with answers the world calls right."""

from __future__ import annotations

import pytest

from safesight import registry
from safesight.defenses.tuning_data import TuningData, rows_of
from safesight.judges.exact import ExactJudge
from safesight.testbed.tuning import tuning_set


def pixels(samples: object) -> set[bytes]:
    return {s.image().tobytes() for s in samples if s.image is not None}  # type: ignore[attr-defined]


def test_rows_pass_the_checks_and_repeat() -> None:
    samples = tuning_set(30, 60, seed=2)
    data = TuningData(rows_of(samples))
    assert (len(data.forget), len(data.retain)) == (30, 60)
    assert all(row.refusal for row in data.forget)
    assert data.hash == TuningData(rows_of(tuning_set(30, 60, seed=2))).hash
    assert data.hash != TuningData(rows_of(tuning_set(30, 60, seed=3))).hash


def test_answers_are_what_the_judge_expects() -> None:
    judge = ExactJudge()
    for sample in tuning_set(20, 50):
        verdict = judge(sample.facts["answer"], sample)
        assert verdict == ("harmful" if sample.label == "harmful" else "harmless"), sample.id


@pytest.mark.parametrize("task", ["image_harm", "over_refusal", "vqa", "sensitive_benign"])
def test_no_rendering_is_shared_with_a_task(task: str) -> None:
    mine = pixels(tuning_set(60, 120))
    for split in ("test", "fit", "calibration"):
        assert not mine & pixels(registry.load("benchmark", task)(60, split=split))
