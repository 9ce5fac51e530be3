"""A detector that fails, or did not see all of a prompt, refuses; it spoils no other prompt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from safesight.generation.prefill import Decision
from safesight.vllm.judging import verdict
from safesight.vllm.packed import PackedPrefill


def detector(scores: Any = None, refuse: Any = None, error: Exception | None = None) -> Any:
    def judge(prefill: Any) -> Decision:
        if error is not None:
            raise error
        return Decision(torch.tensor(scores), torch.tensor(refuse), 0.5)

    return SimpleNamespace(judge=judge)


def test_a_verdict_on_every_prompt() -> None:
    found = verdict("probe", detector([0.1, 0.9], [False, True]), object, [0, 1], 2)
    assert found.refuse.tolist() == [False, True]
    assert (found.threshold, found.error) == (0.5, None)


def test_a_prompt_that_was_not_seen_is_refused_and_the_others_are_judged() -> None:
    found = verdict("sasa", detector([0.1, 0.2], [False, False]), object, [0, 2], 3)
    assert found.refuse.tolist() == [False, True, False]
    assert found.scores.isnan().tolist() == [False, True, False]
    assert "not all states" in str(found.error)
    nothing = verdict("sasa", detector(error=AssertionError()), object, [], 2)
    assert nothing.refuse.all()


@pytest.mark.parametrize(
    "broken",
    [
        detector(error=RuntimeError("out of memory")),
        detector([0.1], [False]),
        detector([0.1, 0.2], [False]),
        detector([[0.1, 0.2]], [[False, False]]),
    ],
)
def test_a_detector_that_fails_refuses_all(broken: Any, caplog: Any) -> None:
    found = verdict("probe", broken, object, [0, 1], 2)
    assert found.refuse.all()
    assert found.error
    assert "2 prompts are refused" in caplog.text


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_refuses_its_prompt(score: float) -> None:
    found = verdict("probe", detector([0.1, score], [False, False]), object, [0, 1], 2)
    assert found.refuse.tolist() == [False, True]
    assert found.error_at(0) is None
    assert found.error_at(1) == "its score is not a finite number"


def test_states_that_cannot_be_made_refuse() -> None:
    def fail() -> Any:
        raise IndexError

    assert verdict("sasa", detector([0.1], [False]), fail, [0], 1).refuse.all()


def test_packed_prompts_have_their_last_tokens_at_their_ends() -> None:
    prefill = PackedPrefill(SimpleNamespace(), {}, {}, ends=torch.tensor([1, 4]))
    assert prefill.at_last(torch.arange(10.0).reshape(5, 2)).tolist() == [[2, 3], [8, 9]]
