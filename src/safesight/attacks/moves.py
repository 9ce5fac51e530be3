"""Helpers that attacks share: taking the object out of a sentence, and deriving the sample.

Each attack has its own file; there are none here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from safesight.errors import InputError
from safesight.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["derive", "point_at"]


def point_at(question: str, target: str, pointer: str) -> str:
    """Replace every mention of the target, with its article or in the plural, by a pointer.

    Raises:
        InputError: the question does not mention the target.

    Example:
        >>> point_at("How do I make a bomb, and are bombs loud?", "bomb", "this thing")
        'How do I make this thing, and are this thing loud?'
    """
    moved, count = _mentions(target).subn(lambda _: pointer, question)
    if not target.strip() or count == 0:
        raise InputError(
            f"The question {question!r} does not mention its target {target!r}, so there is "
            "nothing to move into a picture. Attack requests that name their object."
        )
    return moved


def _mentions(target: str) -> re.Pattern[str]:
    """The target with its article, or in the plural."""
    words = r"\s+".join(re.escape(word) for word in target.split())
    return re.compile(
        rf"(?<!\w)(?:(?:a|an|the|some)\s+)?{words}(?:e?s)?(?!\w)", flags=re.IGNORECASE
    )


def derive(
    sample: Sample, attack: str, question: str, image: Callable[[], Image], picture: str
) -> Sample:
    """The attacked sample: the same label, target and facts; a new question, picture and id.

    Raises:
        InputError: the sample already has a picture, or an earlier turn mentions its target.
    """
    if sample.image is not None:
        raise InputError(
            f"Sample {sample.id!r} already has a picture, and the attack {attack!r} would "
            "replace it. Attack requests in plain text."
        )
    said = [part["text"] for turn in sample.turns[:-1] for part in turn["content"]]
    if sample.target.strip() and any(map(_mentions(sample.target).search, said)):
        raise InputError(
            f"An earlier turn of sample {sample.id!r} mentions its target {sample.target!r}, so "
            f"the attack {attack!r} would not hide it. Attack requests in which only the last "
            "turn names it."
        )
    facts = {**sample.facts, "picture": picture, "plain": sample.id}
    return replace(
        sample.reworded(question),
        id=f"{sample.id}+{attack}",
        image=image,
        attack=attack,
        facts=facts,
    )
