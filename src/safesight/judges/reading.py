"""Many answers read by one judge, one by one or together."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from safesight.types import Judge, Reading, Sample

__all__ = ["readings", "wait_for"]

Found = TypeVar("Found")


async def readings(judge: Judge, pairs: Sequence[tuple[str, Sample]]) -> list[Reading]:
    """What a judge finds in each answer, in order; by its own `readings` if it has that method."""
    own = getattr(judge, "readings", None)
    if own is None:
        return [Reading(judge(answer, sample)) for answer, sample in pairs]
    found: list[Reading] = await own(pairs)
    return found


def wait_for(work: Coroutine[None, None, Found]) -> Found:
    """The result of something asynchronous, whether an event loop is running here or not.

    Example:
        >>> async def answer():
        ...     return 42
        >>> wait_for(answer())
        42
    """
    # In a thread of its own, since a running loop allows no second one beside it.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, work).result()
