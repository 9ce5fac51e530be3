"""Many answers read by one judge, one by one or together."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from safesight.errors import InputError
from safesight.types import Judge, Reading, Sample

__all__ = ["readings", "refuse_if_all_failed", "wait_for"]

Found = TypeVar("Found")


async def readings(judge: Judge, pairs: Sequence[tuple[str, Sample]]) -> list[Reading]:
    """What a judge finds in each answer, in order; by its own `readings` if it has that method."""
    own = getattr(judge, "readings", None)
    if own is None:
        return [Reading(judge(answer, sample)) for answer, sample in pairs]
    found: list[Reading] = await own(pairs)
    return found


def refuse_if_all_failed(judge: str, details: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a judge that could not be asked about any answer: there is nothing to keep.

    Args:
        judge: Its name.
        details: The details of all its readings. Empty ones are of answers that it did not ask
            about, such as empty answers.

    Raises:
        InputError: every question to it failed.
    """
    asked = [each for each in details if each]
    if asked and all(each.get("failure") == "error" for each in asked):
        raise InputError(
            f"The judge {judge} graded none of the answers ({asked[0].get('said')}). Nothing was "
            "written; run the same command again once it can be asked."
        )


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
