"""The same answers from vLLM's other runner, from a compiled engine, and from two ranks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from tests.vllm import engines, interpreted
from tests.vllm.test_serving import CHUNKS, _alternating, answers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def second() -> Iterator[ProcessPoolExecutor]:
    """A process with Model Runner V2."""
    with engines.process(interpreted.prepare) as started:
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


@pytest.mark.parametrize("name", ["probe", "sasa", "rai"])
def test_a_compiled_engine(name: str, pool: ProcessPoolExecutor) -> None:
    same(pool.submit(_alternating, [{"name": name}], {"enforce_eager": False}).result(), name)


@pytest.mark.parametrize("name", ["probe", "sasa", "hidden_detect", "rai"])
def test_two_ranks_with_half_of_the_heads_each(name: str, pool: ProcessPoolExecutor) -> None:
    ranks = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
    same(pool.submit(_alternating, [{"name": name}], ranks).result(), name)
