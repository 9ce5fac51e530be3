"""Standard error: where progress and remarks go, so that standard output stays for results.

Every bar and spinner of the package is made here. `rich` is imported when one is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["bar", "stderr", "steps", "track", "waiting"]

Item = TypeVar("Item")


def stderr() -> Console:
    """For progress and remarks."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner around something that may take more than two seconds."""
    with stderr().status(what):
        yield


def bar(*, visible: bool = True) -> Progress:
    """A progress bar with a count and the time left; tasks are added by the caller."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr(),
        refresh_per_second=4,
        disable=not visible,
    )


@contextmanager
def steps(what: str, total: int, *, visible: bool = True) -> Iterator[Callable[[], None]]:
    """A progress bar; call what it yields after each step."""
    with bar(visible=visible) as shown:
        task = shown.add_task(what, total=total)
        yield lambda: shown.advance(task)


def track(items: Sequence[Item], what: str, *, visible: bool = True) -> Iterable[Item]:
    """The items in order, with a progress bar.

    Example:
        >>> list(track([1, 2], "counting", visible=False))
        [1, 2]
    """
    with steps(what, len(items), visible=visible) as step:
        for item in items:
            yield item
            step()
