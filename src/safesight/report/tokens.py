"""Tokens as a reader can tell them apart: a space and a new line are visible signs.

`analysis.lens` spells tokens as text. A file of an earlier version spells them as the vocabulary
does, where Ġ and ▁ stand for a space and Ċ for a new line.
"""

from __future__ import annotations

__all__ = ["written"]

_SIGNS = str.maketrans({"Ġ": "␣", "▁": "␣", " ": "␣", "Ċ": "↵", "\n": "↵", "\r": "↵", "\t": "⇥"})


def written(token: str) -> str:
    r"""A token for display. What is not text, such as a part of a character, stays as it is.

    Example:
        >>> [written(token) for token in ("sure", "Ġ", "▁no", ".ĊĊ", "\n")]
        ['sure', '␣', '␣no', '.↵↵', '↵']
    """
    return token.translate(_SIGNS)
