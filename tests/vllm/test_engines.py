"""The same answers from vLLM's other runner, a full engine, a compiled one, and two ranks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest.mock import patch

import pytest

from tests.vllm import engines
from tests.vllm.test_serving import CHUNKS, _alternating, answers

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


FULL = {"num_gpu_blocks_override": 17, "block_size": 16, "max_num_seqs": 8, "max_model_len": 256}
"""Memory for the tokens of two or three requests, so that others must make room meanwhile."""


def _making_room(defenses: Any, options: Any) -> tuple[tuple[list[str], list[str]], int]:
    """The answers, and how often a request that had begun had to leave."""
    from vllm.v1.core.sched.scheduler import Scheduler

    left, leave = [], Scheduler._preempt_request

    def counted(self: Any, request: Any, *args: Any, **more: Any) -> Any:
        left.append(request.num_output_tokens)
        return leave(self, request, *args, **more)

    with patch.object(Scheduler, "_preempt_request", counted):
        found = _alternating(defenses, options)
    return found, sum(each > 0 for each in left)


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize("name", ["probe", "sasa", "rai"])
@pytest.mark.parametrize("runner", ["pool", "second"])
def test_a_request_that_has_to_make_room_comes_back_as_it_was(
    runner: str, name: str, cached: bool, request: pytest.FixtureRequest
) -> None:
    """It was judged, or answered in part; its prompt may be in a cache, and not be seen again."""
    options = {**FULL, "enable_prefix_caching": cached}
    started: ProcessPoolExecutor = request.getfixturevalue(runner)
    found, left = started.submit(_making_room, [{"name": name}], options).result()
    assert left > 0
    same(found, name)


@pytest.mark.parametrize("name", ["probe", "sasa", "rai"])
def test_a_compiled_engine(name: str, pool: ProcessPoolExecutor) -> None:
    same(pool.submit(_alternating, [{"name": name}], {"enforce_eager": False}).result(), name)


@pytest.mark.parametrize("name", ["probe", "sasa", "hidden_detect", "rai"])
def test_two_ranks_with_half_of_the_heads_each(name: str, pool: ProcessPoolExecutor) -> None:
    ranks = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
    same(pool.submit(_alternating, [{"name": name}], ranks).result(), name)
