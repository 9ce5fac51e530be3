"""Multiple choice: the options of a question as text, and their rotations."""

from __future__ import annotations

import string
from collections.abc import Sequence

__all__ = ["LETTERS", "options", "rotations"]

LETTERS = string.ascii_uppercase


def options(choices: Sequence[str]) -> str:
    r"""One line per choice, with its letter.

    Example:
        >>> options(["red", "blue"])
        'A. red\nB. blue'
    """
    return "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=False))


def rotations(choices: Sequence[str]) -> list[list[str]]:
    """The choices in every order that moving the first one to the end gives, as they are first.

    Example:
        >>> rotations(["red", "blue", "green"])
        [['red', 'blue', 'green'], ['blue', 'green', 'red'], ['green', 'red', 'blue']]
    """
    return [[*choices[start:], *choices[:start]] for start in range(len(choices))]
