"""One name that a registry knows: where the thing lives, and one sentence about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Entry"]


@dataclass(frozen=True)
class Entry:
    """Where a named thing lives, and one sentence about it."""

    target: str
    """`"module:Object"`."""
    summary: str = ""
    """The sentence for a built-in name; a plug-in provides its own."""
    package: str | None = None
    """Name and version of the package that adds it; None for a built-in name."""
    thing: Any = None
    """What the name stands for, if it was added by `add`."""
    group: str = ""
    """What it is listed under, if there are groups of such names."""
    part_of: str = ""
    """The name of the whole, if `add` made it of a part of something that has one."""
