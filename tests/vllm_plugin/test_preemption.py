"""A request that leaves the batch to make room comes back with the verdict on its prompt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from safesight.vllm.forcing import Forcing
from safesight.vllm.guard import Guard
from safesight.vllm.requests import Left, Request, Step

PROMPT = [1, 2, 3]
REFUSAL, END = [7, 8], 0


@pytest.fixture
def guard() -> Guard:
    """One detector, and no model."""
    made: Any = Guard.__new__(Guard)
    made.host, made.compared, made._per_request = SimpleNamespace(name="m"), True, False
    made._requests, made._image_token = {}, 9
    made.defenses = SimpleNamespace(detectors={"probe": None}, edits={})
    made.forcing = Forcing({"probe": REFUSAL}, END, slots=4, device=torch.device("cpu"))
    return made


def forced(guard: Guard, slot: int, position: int) -> int | None:
    """The one token that is possible after a position; None if all are."""
    logits = torch.zeros(1, 10)
    hidden = guard.forcing.hide(logits, torch.tensor([slot]), torch.tensor([position]))
    return None if torch.equal(hidden, logits) else int(hidden.argmax())


def back(guard: Guard, slot: int, refusing: str | None) -> None:
    """Judge the request in a slot, take it out, and take it in again in the next slot."""
    request = guard._requests[slot]
    request.judged, request.refusing, request.seen = True, refusing, len(PROMPT)
    left = Left(4, tokens=8)
    left.put("r", guard.remove(slot))
    guard.add(slot + 1, "r", PROMPT, object(), left.take("r"))


def test_an_answer_that_was_allowed_goes_on(guard: Guard) -> None:
    """Its prompt and a part of its answer may be in the cache, so it is never judged again."""
    guard.add(0, "r", PROMPT, object())
    assert forced(guard, 0, position=2) == REFUSAL[0], "refused until it is judged"
    back(guard, 0, refusing=None)
    assert Step.of(guard._requests, [(1, 0, 1, 5)]).rows == []
    assert forced(guard, 1, position=5) is None


def test_a_refusal_goes_on_where_it_was(guard: Guard) -> None:
    guard.add(0, "r", PROMPT, object())
    back(guard, 0, refusing="probe")
    assert forced(guard, 1, position=3) == REFUSAL[1]
    assert forced(guard, 1, position=4) == END


def test_a_verdict_is_of_one_prompt(guard: Guard) -> None:
    guard.add(0, "r", PROMPT, object())
    guard._requests[0].judged = True
    guard.add(1, "r", [1, 2, 4], object(), guard._requests[0])
    assert forced(guard, 1, position=2) == REFUSAL[0]


def test_what_left_is_forgotten_when_it_comes_back_or_others_follow() -> None:
    def judged(name: str) -> Request:
        return Request(0, name, torch.zeros(2).numpy(), True, None, judged=True)

    left = Left(2, tokens=8)
    for name in "abc":
        left.put(name, judged(name))
    assert left.take("a") is None
    assert left.take("b").id == "b"
    assert left.take("b") is None
    left.put("new", Request(0, "new", torch.zeros(2).numpy(), True, None))
    assert left.take("new") is None, "nothing is known of it"


def test_states_are_kept_of_so_many_tokens_and_of_the_last_request() -> None:
    """Who leaves during the prefill never comes back, and an engine's memory is counted."""

    def begun(name: str, seen: int) -> Request:
        states = {0: [torch.zeros(seen, 2)]}
        return Request(0, name, torch.zeros(99).numpy(), True, None, seen=seen, states=states)

    left = Left(99, tokens=8)
    for name, seen in (("a", 4), ("b", 4), ("c", 4)):
        left.put(name, begun(name, seen))
    assert left.take("a") is None
    assert left.take("b").id == "b"
    left.put("d", begun("d", 20))
    assert left.take("c") is None
    assert left.take("d").id == "d"
