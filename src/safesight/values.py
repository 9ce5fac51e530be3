"""Tests of what a value is, for whatever comes from another package."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "are_functions",
    "are_json",
    "are_texts",
    "are_turns",
    "is_part",
    "is_text",
    "is_text_or_none",
    "one_of",
]


def is_text(found: Any) -> bool:
    """Whether it is a text."""
    return isinstance(found, str)


def is_text_or_none(found: Any) -> bool:
    """Whether it is a text or None."""
    return found is None or isinstance(found, str)


def are_texts(found: Any) -> bool:
    """Whether it is a list or tuple of texts."""
    return isinstance(found, list | tuple) and all(map(is_text, found))


def are_json(found: Any) -> bool:
    """Whether it is a mapping from names to JSON values."""
    if not isinstance(found, Mapping) or not all(map(is_text, found)):
        return False
    try:
        json.dumps(found, default=dict)
    except (TypeError, ValueError):
        return False
    return True


def are_functions(found: Any) -> bool:
    """Whether it is a list or tuple of functions."""
    return isinstance(found, list | tuple) and all(map(callable, found))


def are_turns(found: Any) -> bool:
    """Whether it is a list or tuple of chat turns, each with a role and parts."""
    return isinstance(found, list | tuple) and all(
        isinstance(turn, Mapping)
        and is_text(turn.get("role"))
        and isinstance(turn.get("content"), list)
        and all(map(is_part, turn["content"]))
        for turn in found
    )


def is_part(found: Any) -> bool:
    """Whether it is the part of a turn: text, or the place of a picture."""
    kind = found.get("type") if isinstance(found, Mapping) else None
    return kind == "image" or (kind == "text" and is_text(found.get("text")))


def one_of(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    """A test for one of some words, and the words, for messages."""
    return lambda found: isinstance(found, str) and found in allowed, " or ".join(allowed)
