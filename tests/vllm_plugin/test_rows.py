"""Which rows of a packed step belong to which prompt, however it is divided."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from safesight.vllm.requests import Request, Step

CPU = torch.device("cpu")
PICTURE = 9


def request(slot: int, length: int = 5, *, defended: bool = True, visual: int = 0) -> Request:
    prompt = np.array([PICTURE] * visual + [1] * (length - visual))
    return Request(slot, f"r{slot}", prompt, defended, None)


def test_a_batch_of_whole_prompts_answers_and_others() -> None:
    requests = {0: request(0, 3), 1: request(1, 4, defended=False), 2: request(2, 2, visual=1)}
    # slot, first row, rows, computed before; 3 answers already, 7 is not ours
    step = Step.of(requests, [(0, 0, 3, 0), (1, 3, 4, 0), (2, 7, 2, 0), (7, 9, 5, 0)])
    assert step.last_rows(CPU).tolist() == [2, 8]
    rows, owners = step.visual_rows(PICTURE, CPU)
    assert (rows.tolist(), owners.tolist()) == ([7], [2])
    assert Step.of(requests, [(0, 0, 1, 3)]).rows == []


def test_what_comes_behind_a_prompt_is_not_its_own() -> None:
    """A request that was preempted reads its prompt and its answer again in one go."""
    step = Step.of({0: request(0, 3)}, [(0, 10, 7, 0)])
    assert step.last_rows(CPU).tolist() == [12]
    assert step.rows[0].request.seen == 3


def test_a_gap_is_never_closed_again_and_a_new_start_is() -> None:
    one = request(0, 6)
    Step.of({0: one}, [(0, 0, 2, 0)])
    Step.of({0: one}, [(0, 0, 2, 3)])  # the third token was computed elsewhere
    Step.of({0: one}, [(0, 0, 1, 5)])
    assert one.seen != 6
    for done in range(6):
        Step.of({0: one}, [(0, 0, 1, done)])
    assert one.seen == 6


def test_a_cached_prefix_is_a_gap() -> None:
    one = request(0, 6)
    Step.of({0: one}, [(0, 0, 2, 4)])
    assert one.seen != 6


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=5))
def test_every_prompt_token_is_in_one_step(divided: list[list[int]]) -> None:
    requests = {slot: request(slot, sum(parts)) for slot, parts in enumerate(divided)}
    done = dict.fromkeys(requests, 0)
    ends = []
    for turn in range(max(map(len, divided))):
        batch, row = [], 0
        for slot, parts in enumerate(divided):
            count = parts[turn] if turn < len(parts) else 1  # an answer grows by one
            batch.append((slot, row, count, done[slot]))
            done[slot], row = done[slot] + count, row + count
        step = Step.of(requests, batch)
        assert sum(each.count for each in step.rows) == sum(
            parts[turn] for parts in divided if turn < len(parts)
        )
        ends += [each.request.slot for each in step.ending()]
    assert sorted(ends) == sorted(requests)
    assert all(each.seen == len(each.prompt) for each in requests.values())
