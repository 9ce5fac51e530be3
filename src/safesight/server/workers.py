"""Work that would hold up the event loop, in threads of which there are only so many.

A thread that computes cannot be stopped. `anyio.to_thread` gives its place to the next caller as
soon as nobody waits any more, so clients that leave could pile up threads, each with a picture in
memory. Here a place is free once its thread is, and what has not begun when its client leaves never
does, and is not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

__all__ = ["PICTURES", "TEXTS", "Workers"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Workers:
    """A few threads, for any event loop.

    Args:
        name: What the threads are called.
        most: How many there may be.

    Example:
        >>> asyncio.run(Workers("words", 1).run(str.upper, "a cup"))
        'A CUP'
    """

    def __init__(self, name: str, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name)

    async def run(
        self,
        function: Callable[_Arguments, _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        """What a function returns or raises, called in one of the threads."""
        job = [partial(function, *args, **kwargs)]
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _take, job)
        finally:
            job.clear()  # the queue goes on holding what was canceled


def _take(job: list[partial[_Result]]) -> _Result:
    return job.pop()()


PICTURES = Workers("safesight-pictures", 2)
"""For pictures: each needs memory for its file and for all of its pixels."""
TEXTS = Workers("safesight-texts", 2)
"""For bodies and texts of up to a million characters."""
