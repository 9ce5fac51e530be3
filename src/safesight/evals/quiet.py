"""Silences Inspect, which prints on rich's global console; ours is another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rich
import rich.console

__all__ = ["quiet"]


class _Silent(rich.console.Console):
    """Prints nothing, and so renders nothing."""

    def print(self, *_: object, **__: object) -> None:
        """Do nothing."""


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, the global console of rich prints nothing.

    Inspect's own setting for that still renders what it does not print, and reads the names of
    models and folders as markup: "[/a]" would end the run. A class stays, whatever Inspect
    reconfigures.
    """
    console = rich.get_console()
    before, console.__class__ = console.__class__, _Silent
    try:
        yield
    finally:
        console.__class__ = before
