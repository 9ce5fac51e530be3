"""Published benchmarks as tasks: their own length and judge, and their own right answers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from inspect_ai import eval
from inspect_ai.log import EvalLog

from safesight.benchmarks.spec import JUDGE
from safesight.evals.tasks import benchmark_task
from tests.benchmarks.made import LAYOUTS, small
from tests.evals.fake import FakeVLM


@pytest.fixture
def asked(fakes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., EvalLog]:
    """The log of a made benchmark that a model answers from what it is asked in words."""

    def ask(layout: str, says: Callable[[str], str], judge: str | None = None) -> EvalLog:
        small(monkeypatch, tmp_path, LAYOUTS[layout])
        monkeypatch.setattr(FakeVLM, "decode", lambda self, *_: list(map(says, self._texts)))
        (log,) = eval(
            benchmark_task(layout, judge=judge),
            model="safesight/fake",
            log_dir=str(tmp_path / "logs"),
            display="none",
        )
        assert log.status == "success", log.error
        return log

    return ask


def rates(log: EvalLog) -> dict[str, float]:
    assert log.results is not None
    return {name: metric.value for name, metric in log.results.scores[0].metrics.items()}


@pytest.mark.parametrize("task", ["figstep_tiny", "mme", "vlguard", "mmbench"])
def test_a_task_has_the_length_and_the_judge_of_its_benchmark(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(monkeypatch, tmp_path, LAYOUTS[task]).spec
    made = benchmark_task(task)
    assert made.config.max_tokens == spec.max_new_tokens
    assert made.metadata is not None
    assert made.metadata["judge"] == JUDGE
    assert made.metadata["data"]["sha256"]
    assert benchmark_task(task, judge="exact").metadata["judge"] == "exact"
    assert benchmark_task("vqa", limit=2).config.max_tokens is None


@pytest.mark.parametrize(("says", "answers", "pictures"), [("Yes", 0.5, 0.0), (None, 1.0, 1.0)])
def test_mme_counts_answers_and_pictures(asked, says, answers, pictures) -> None:
    """Half of the questions are right if the answer is always yes, and no picture is."""

    def answer(text: str) -> str:
        return says or re.findall(r"Is it (\w+)\?", text)[0]

    found = rates(asked("mme", answer))
    assert (found["utility"], found["grouped_utility"]) == (answers, pictures)


@pytest.mark.parametrize(("says", "right"), [("B", 0.0), (None, 1.0)])
def test_mmbench_is_right_only_if_every_rotation_is(asked, says, right) -> None:
    def answer(text: str) -> str:
        return says or re.findall(r"([A-D])\. a cake", text)[0]

    assert rates(asked("mmbench", answer))["utility"] == right


def test_scienceqa_is_right_by_letter(asked) -> None:
    assert rates(asked("scienceqa_img", lambda text: "The answer is A."))["utility"] == 0.5


def test_an_open_question_has_no_utility_without_a_grader(asked) -> None:
    log = asked("mm_vet", lambda text: "A cake and a cup.")
    found = rates(log)
    assert math.isnan(found["utility"])
    assert found["over_refusal_rate"] == 0.0
    assert log.samples is not None
    assert all(sample.target == "a cake<AND>a cup" for sample in log.samples)


@pytest.mark.parametrize(
    ("grading", "utility"),
    [("It has both.\nVerdict: right", 1.0), ("Verdict: wrong", 0.0), ("I cannot say.", math.nan)],
)
def test_an_open_question_is_graded_against_its_reference(asked, grading, utility) -> None:
    prompts = []

    def answer(text: str) -> str:
        if "You grade" not in text:
            return "A cake and a cup."
        prompts.append(text)
        return grading

    log = asked("mm_vet", answer, judge="graded:self")
    assert rates(log)["utility"] == pytest.approx(utility, nan_ok=True)
    assert rates(log)["invalid_rate"] == float(math.isnan(utility))
    assert len(prompts) == 2
    assert all(re.search(r"<reference-\w+>\na cake AND a cup\n", text) for text in prompts)
