"""Requests of several tasks, answered together."""

from __future__ import annotations

import anyio
import pytest

from safesight.judges import together
from safesight.judges.together import Together


def test_what_is_asked_at_the_same_time_is_answered_at_once() -> None:
    calls: list[list[int]] = []

    def doubled(numbers: list[int]) -> list[int]:
        calls.append(numbers)
        return [2 * number for number in numbers]

    found: dict[int, list[int]] = {}

    async def ask() -> None:
        joint = Together(doubled)

        async def one(start: int) -> None:
            found[start] = await joint([start, start + 1])

        async with anyio.create_task_group() as tasks:
            for start in range(0, 2 * together.MOST, 2):
                tasks.start_soon(one, start)

    anyio.run(ask)
    assert found == {s: [2 * s, 2 * s + 2] for s in range(0, 2 * together.MOST, 2)}
    assert [len(call) for call in calls] == [together.MOST, together.MOST]


def test_an_error_reaches_all_that_asked() -> None:
    def broken(numbers: list[int]) -> list[int]:
        raise ValueError("no")

    said: list[str] = []

    async def ask() -> None:
        joint = Together(broken)

        async def one() -> None:
            with pytest.raises(ValueError, match="no") as refused:
                await joint([1])
            said.append(str(refused.value))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)

    anyio.run(ask)
    assert said == ["no"] * 3


def test_of_several_that_ask_one_may_be_cancelled() -> None:
    async def ask() -> list[int]:
        joint = Together(lambda numbers: [2 * number for number in numbers])
        found: list[int] = []

        async def first() -> None:
            with anyio.move_on_after(together.QUIET / 4):
                await joint([1])

        async def second() -> None:
            found.extend(await joint([2]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            tasks.start_soon(second)
        return found

    assert anyio.run(ask) == [4]
