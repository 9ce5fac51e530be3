"""What a terminal shows: progress and remarks on standard error, results on standard output.

Every console, progress bar and spinner of the package is made here. All text is plain: a path such
as "[a]" is not read as markup. `rich` is imported when something is shown. Of several processes
that a launcher has started, the first one alone shows anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from safesight import ranks

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["bar", "numbered", "stderr", "stdout", "steps", "track", "waiting"]

Item = TypeVar("Item")

_WIDE = 160
"""Columns of what is piped somewhere, where no window sets a width."""


def numbered(count: int, noun: str) -> str:
    """A count with its noun, in the singular for one.

    Example:
        >>> numbered(1, "harmful request"), numbered(2, "thing")
        ('1 harmful request', '2 things')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def stderr() -> Console:
    """The console for progress and remarks."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, quiet=not ranks.first())


def stdout() -> Console:
    """The console for results."""
    from rich.console import Console

    quiet = not ranks.first()
    console = Console(highlight=False, markup=False, emoji=False, quiet=quiet)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(highlight=False, markup=False, emoji=False, quiet=quiet, width=_WIDE)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner around something that may take more than two seconds."""
    from rich.text import Text

    with stderr().status(Text(what)):
        yield


def bar(*, visible: bool = True) -> Progress:
    """A progress bar with a count and the time left; the caller adds the tasks."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr(),
        refresh_per_second=4,
        disable=not visible,
    )


@contextmanager
def steps(what: str, total: int, *, visible: bool = True) -> Iterator[Callable[[], None]]:
    """A progress bar that yields a function; call it after each step."""
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
