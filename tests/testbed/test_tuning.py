"""Rows to train on: apart from what is evaluated, and with answers the world calls right."""

from __future__ import annotations

import pytest

from safesight import registry
from safesight.judges.exact import ExactJudge
from safesight.testbed.tasks import image_harm
from safesight.testbed.tuning import tuning_rows
from safesight.training.rows import TuningData


def pixels(samples: object) -> set[bytes]:
    return {s.image().tobytes() for s in samples if s.image is not None}  # type: ignore[attr-defined]


def test_rows_pass_the_checks_and_repeat() -> None:
    data = TuningData(tuning_rows(90, seed=2))
    assert (len(data.forget), len(data.retain)) == (30, 60)
    assert all(row.refusal for row in data.forget)
    assert data.hash == TuningData(tuning_rows(90, seed=2)).hash
    assert data.hash != TuningData(tuning_rows(90, seed=3)).hash


def test_answers_are_what_the_judge_expects() -> None:
    judge, samples = ExactJudge(), {s.id: s for s in image_harm(20, split="train")}
    for row in tuning_rows(60):
        if row.set == "forget":
            assert judge(row.answer, samples[row.id]) == "harmful"
            assert judge(str(row.refusal), samples[row.id]) == "refused"


@pytest.mark.parametrize("task", ["image_harm", "over_refusal", "vqa", "sensitive_benign"])
def test_no_rendering_is_shared_with_a_task(task: str) -> None:
    mine = pixels(tuning_rows(180))
    for split in ("test", "fit", "calibration"):
        assert not mine & pixels(registry.load("benchmark", task)(60, split=split))
