"""The same answers from vLLM's other runner, a full engine, a compiled one, and two ranks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest.mock import patch

import pytest

from tests.vllm import engines
from tests.vllm.test_serving import CHUNKS, Engine, _alternating, answers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def second() -> Iterator[ProcessPoolExecutor]:
    """A process with Model Runner V2."""
    with engines.process(runner=2) as started:
        yield started


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with engines.process() as started:
        yield started


def same(found: tuple[list[str], list[str]], name: str) -> None:
    on, off = answers(name), answers("none")
    even, odd = found
    assert even == [(on, off)[index % 2][index] for index in range(len(on))]
    assert odd == [(off, on)[index % 2][index] for index in range(len(on))]


@pytest.mark.parametrize("options", [{}, CHUNKS], ids=["whole", "divided"])
@pytest.mark.parametrize("name", ["probe", "sasa", "rai", "refusal_direction"])
def test_model_runner_v2(name: str, options: Any, second: ProcessPoolExecutor) -> None:
    same(second.submit(_alternating, [{"name": name}], options).result(), name)


FULL = {"num_gpu_blocks_override": 9, "block_size": 32, "max_num_seqs": 8, "max_model_len": 256}
"""Memory for the tokens of three requests, so that others must make room while they answer."""


def _in_little_memory(defenses: Any) -> tuple[tuple[list[str], list[str]], int]:
    """The answers, and how often a request that had begun to answer had to leave."""
    from vllm.v1.core.sched.scheduler import Scheduler

    left: list[int] = []
    leave = Scheduler._preempt_request

    def noted(self: Any, request: Any, *args: Any, **more: Any) -> Any:
        left.append(request.num_output_tokens)
        return leave(self, request, *args, **more)

    with patch.object(Scheduler, "_preempt_request", noted):
        return _alternating(defenses, FULL), sum(each > 0 for each in left)


@pytest.mark.parametrize("name", ["probe", "sasa", "rai"])
@pytest.mark.parametrize("runner", ["pool", "second"])
def test_a_request_that_makes_room_comes_back_as_it_was(
    runner: str, name: str, request: pytest.FixtureRequest
) -> None:
    started: ProcessPoolExecutor = request.getfixturevalue(runner)
    found, left = started.submit(_in_little_memory, [{"name": name}]).result()
    assert left > 0
    same(found, name)


CACHED = {"enable_prefix_caching": True, "block_size": 32}
CALLED_AWAY = 2 * 32 + 1
"""Tokens of prompt and answer with which a request has to leave, once: two blocks are in the cache
then, and hold the prompts of all pictures. None of their tokens is computed again."""


def _called_away(defenses: Any) -> tuple[list[str], list[str], int]:
    """Answers without and with leaving, and how many of the defended ones left."""
    from vllm.v1.core.sched.scheduler import Scheduler

    left: dict[str, bool] = {}
    schedule = Scheduler.schedule

    def calling(self: Any, *args: Any) -> Any:
        for each in [*self.running]:
            if each.num_tokens >= CALLED_AWAY and each.request_id not in left:
                left[each.request_id] = each.num_prompt_tokens < CALLED_AWAY - 1
                self.running.remove(each)
                self._preempt_request(each, time.monotonic(), drop_stale_output=True)
                self.prev_step_scheduled_req_ids.discard(each.request_id)
        return schedule(self, *args)

    with Engine(defenses, **CACHED) as engine:
        before = engine.say(min_tokens=30)
        with patch.object(Scheduler, "schedule", calling):
            return before, engine.say(min_tokens=30), sum(left.values())


@pytest.mark.parametrize("name", ["probe", "sasa", "rai"])
@pytest.mark.parametrize("runner", ["pool", "second"])
def test_a_cached_prompt_keeps_its_verdict(
    runner: str, name: str, request: pytest.FixtureRequest
) -> None:
    """Its request left in the middle of the answer; nobody sees the prompt again."""
    started: ProcessPoolExecutor = request.getfixturevalue(runner)
    before, after, left = started.submit(_called_away, [{"name": name}]).result()
    assert left > 5  # a refusal is too short to
    assert after == before


@pytest.mark.parametrize("name", ["probe", "sasa", "rai"])
def test_a_compiled_engine(name: str, pool: ProcessPoolExecutor) -> None:
    same(pool.submit(_alternating, [{"name": name}], {"enforce_eager": False}).result(), name)


@pytest.mark.parametrize("name", ["probe", "sasa", "hidden_detect", "rai"])
def test_two_ranks_with_half_of_the_heads_each(name: str, pool: ProcessPoolExecutor) -> None:
    ranks = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
    same(pool.submit(_alternating, [{"name": name}], ranks).result(), name)
