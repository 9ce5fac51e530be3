"""Requests that arrive one by one, answered several at a time.

An evaluation judges each answer as soon as it is there. A judge that computes reads several answers
in one batch in little more time than one. So the first that asks waits a moment for others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio
import anyio.to_thread

__all__ = ["Together"]

Asked = TypeVar("Asked")
Found = TypeVar("Found")

MOST = 64
"""Requests that are answered at a time, if there are as many."""
QUIET = 0.02
"""Seconds to wait for further requests."""


@dataclass
class _Request(Generic[Asked, Found]):
    asked: Sequence[Asked]
    found: Sequence[Found] | None = None
    error: BaseException | None = None


class Together(Generic[Asked, Found]):
    """Calls a function with what several tasks ask for at the same time, in a thread.

    Args:
        answer: Takes a list, and returns what it found for each of its items, in order.

    Example:
        >>> doubled = Together(lambda numbers: [2 * number for number in numbers])
        >>> anyio.run(doubled, [1, 2])
        [2, 4]
    """

    def __init__(self, answer: Callable[[list[Asked]], Sequence[Found]]) -> None:
        self._answer = answer
        self._lock = anyio.Lock()
        self._waiting: list[_Request[Asked, Found]] = []

    async def __call__(self, asked: Sequence[Asked]) -> list[Found]:
        """What the function finds for each item, in order."""
        request: _Request[Asked, Found] = _Request(asked)
        self._waiting.append(request)
        try:
            async with self._lock:
                if request.found is None and request.error is None:
                    await anyio.sleep(QUIET)
                    await self._serve()
        finally:
            if request in self._waiting:
                self._waiting.remove(request)
        if request.error is not None:
            raise request.error
        return list(request.found or ())

    async def _serve(self) -> None:
        batch, count = [], 0
        while self._waiting and count < MOST:
            batch.append(self._waiting.pop(0))
            count += len(batch[-1].asked)
        everything = [item for request in batch for item in request.asked]
        try:
            found = list(await anyio.to_thread.run_sync(self._answer, everything))
        except Exception as error:
            for request in batch:
                request.error = error
            raise
        except BaseException:  # only this task was cancelled: the others ask again
            self._waiting = [*batch, *self._waiting]
            raise
        for request in batch:
            request.found, found = found[: len(request.asked)], found[len(request.asked) :]
