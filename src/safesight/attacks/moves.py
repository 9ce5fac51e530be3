"""Helpers that attacks share: what is moved out of a sentence, and how an attack signs its work.

Each attack has its own file; there are none here. `signed` gives the attacked sample its id and
facts, its budget among them; `tried` does so for an attack with several tries, which become the
sample's shots; `derive` is for attacks that make a picture from a request in plain text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from safesight.errors import InputError
from safesight.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Pictures",
    "Render",
    "check_budget",
    "check_side",
    "derive",
    "distinct",
    "generator",
    "hides",
    "mentions",
    "own_pictures",
    "point_at",
    "reworded",
    "signed",
    "tried",
]

Render = Callable[[], "Image"]
"""Renders a picture; called each time the picture is needed."""

Pictures = Literal["kept", "made", "changed", "either"]
"""What an attack does to pictures, as its class says it in the attribute `pictures`:

kept     nothing: it changes words; an attack without the attribute is one of these
made     it makes them from a request in plain text, and refuses a sample that has one
changed  it changes those of the last turn, and refuses a sample that has none there
either   it takes both kinds of samples
"""

_MOST_QUERIES = 10_000
"""As many as in the paper of Best-of-N."""
_DRAWS = 100
"""Draws per try before `distinct` gives up."""

_T = TypeVar("_T", bound=Hashable)


def point_at(question: str, target: str, pointer: str) -> str:
    """Replace every mention of the target, with its article or in the plural, by a pointer.

    Raises:
        InputError: the question does not mention the target.

    Example:
        >>> point_at("How do I make a bomb, and are bombs loud?", "bomb", "this thing")
        'How do I make this thing, and are this thing loud?'
    """
    if not mentions(question, target):
        raise InputError(
            f"The question {question!r} does not mention its target {target!r}, so there is "
            "nothing to move into a picture. Attack requests that name their object."
        )
    return _mentions(target).sub(lambda _: pointer, question)


def mentions(text: str, target: str) -> bool:
    """Whether a text names the target.

    Example:
        >>> mentions("two bombs", "bomb"), mentions("a bombardment", "bomb"), mentions("a", "")
        (True, False, False)
    """
    return bool(target.strip()) and _mentions(target).search(text) is not None


def _mentions(target: str) -> re.Pattern[str]:
    """The target with its article, or in the plural."""
    words = r"\s+".join(re.escape(word) for word in target.split())
    return re.compile(
        rf"(?<!\w)(?:(?:a|an|the|some)\s+)?{words}(?:e?s)?(?!\w)", flags=re.IGNORECASE
    )


def hides(sample: Sample, attack: str) -> None:
    """Refuse a sample whose target could not be hidden by rewriting its last turn.

    Raises:
        InputError: an earlier turn mentions it.
    """
    said = [
        part["text"] for turn in sample.turns[:-1] for part in turn["content"] if "text" in part
    ]
    if any(mentions(text, sample.target) for text in said):
        raise InputError(
            f"An earlier turn of sample {sample.id!r} mentions its target {sample.target!r}, so "
            f"the attack {attack!r} would not hide it. Attack requests in which only the last "
            "turn names it."
        )


def own_pictures(
    sample: Sample, attack: str | None = None
) -> tuple[tuple[Render, ...], tuple[Render, ...]]:
    """The pictures of earlier turns, and those of the last turn.

    Args:
        sample: Any sample.
        attack: The attack that needs a picture in the last turn; None if nothing does.

    Raises:
        InputError: the attack needs one, and there is none.
    """
    parts = [part for turn in sample.turns[:-1] for part in turn["content"]]
    before = sum(part["type"] == "image" for part in parts)
    earlier, own = sample.pictures[:before], sample.pictures[before:]
    if attack is not None and not own:
        raise InputError(
            f"Sample {sample.id!r} has no picture, and the attack {attack!r} changes one. "
            "Attack requests about a picture."
        )
    return earlier, own


def derive(
    sample: Sample, attack: str, question: str, images: Sequence[Render], picture: str
) -> Sample:
    """The attacked sample: the same label, target and facts; a new question, pictures and id.

    Args:
        sample: A request in plain text.
        attack: The name of the attack.
        question: What is asked instead.
        images: What renders the pictures, in order.
        picture: What kind of picture they are, for the facts.

    Raises:
        InputError: the sample already has a picture or shots, or an earlier turn mentions its
            target.
    """
    if sample.image is not None:
        raise InputError(
            f"Sample {sample.id!r} already has a picture, and the attack {attack!r} would "
            "replace it. Attack requests in plain text; of a file of prompts, keep such rows apart."
        )
    hides(sample, attack)
    return tried(sample, attack, [question], [tuple(images)], picture=picture)


def tried(
    sample: Sample,
    attack: str,
    questions: Sequence[str],
    pictures: Sequence[tuple[Render, ...]] = (),
    **facts: Any,
) -> Sample:
    """The sample under an attack with one or several tries; several become its shots.

    Args:
        sample: The sample before the attack.
        attack: The name of the attack.
        questions: What each try asks, at least one.
        pictures: The pictures of the last turn at each try; none if the attack keeps them.
        facts: Further facts.

    Raises:
        InputError: the sample already has shots.
    """
    if sample.shots:
        raise InputError(
            f"Sample {sample.id!r} already has {len(sample.shots)} shots. "
            f"Attack the plain sample with {attack!r}."
        )
    several, first = len(questions) > 1, questions[0]
    made = sample if first == sample.question else sample.reworded(first)
    made = replace(made, shots=tuple(questions) if several else ())
    if pictures:
        earlier, _ = own_pictures(sample)
        shown = tuple((*earlier, *own) for own in pictures)
        made = replace(
            made,
            image=shown[0][0],
            further_images=shown[0][1:],
            shot_pictures=shown if several else (),
        )
    return signed(made, sample, attack, **facts)


def reworded(sample: Sample, attack: str, rewrite: Callable[[str], str]) -> Sample:
    """The sample with its question rewritten, and each of its shots likewise."""
    made = sample.reworded(rewrite(sample.question))
    return signed(replace(made, shots=tuple(map(rewrite, sample.shots))), sample, attack)


def signed(made: Sample, plain: Sample, attack: str, **facts: Any) -> Sample:
    """What an attack made of a sample, with a derived id and the facts that all of them have.

    `facts["plain"]` is the id of the sample before all attacks, `facts["goal"]` what that asked
    for, and `facts["budget"]` how often the model is queried: {"queries": 1} without shots.

    Example:
        >>> plain = Sample("7", "how do i bake a cake?", "benign", "cake")
        >>> signed(plain.reworded("A cake, please!"), plain, "politely").facts["budget"]
        {'queries': 1}
    """
    always = {"plain": plain.id, "goal": plain.question}
    budget = {"queries": max(1, len(made.shots))}
    return replace(
        made,
        id=f"{plain.id}+{attack}",
        attack=attack,
        facts={**always, **plain.facts, **facts, "budget": budget},
    )


def check_budget(queries: int, attack: str) -> None:
    """Refuse a budget that allows no query, or so many that drawing them would not end.

    Raises:
        InputError: it is below 1 or above 10,000.
    """
    if queries < 1:
        raise InputError(
            f"The attack {attack!r} has a budget of {queries} queries. Allow at least 1."
        )
    if queries > _MOST_QUERIES:
        raise InputError(
            f"The attack {attack!r} has a budget of {queries} queries. Allow at most "
            f"{_MOST_QUERIES}."
        )


def check_side(side: int, what: str, most: int = 10_000) -> None:
    """Refuse a number that nothing can be drawn with.

    Args:
        side: How many pixels, or other parts, one side has.
        what: What it is a side of, as the error calls it.
        most: The largest that can be drawn in reasonable time.

    Raises:
        InputError: it is below 1 or above the largest.
    """
    if not 1 <= side <= most:
        raise InputError(f"The side of {what} is {side}. Choose a number from 1 to {most:,}.")


def generator(sample: Sample, attack: str) -> random.Random:
    """The random generator of an attack on a sample: the same draws for the same id."""
    return random.Random(f"{sample.id}+{attack}")


def distinct(draw: Callable[[], _T], count: int, plain: _T, attack: str) -> list[_T]:
    """Draw until there are so many different tries, none of them the plain request.

    Raises:
        InputError: the budget is below 1, or the request has too few variants.
    """
    check_budget(count, attack)
    found: dict[_T, None] = {}
    for _ in range(count * _DRAWS):
        if (drawn := draw()) != plain:
            found[drawn] = None
        if len(found) == count:
            return list(found)
    raise InputError(
        f"The attack {attack!r} finds only {len(found)} variants of a request, and its budget is "
        f"{count} queries. Lower the budget, or attack a longer request."
    )
