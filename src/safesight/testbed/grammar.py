"""The grammar of the bundled world's language: is an answer written in it at all?

It is compiled from the forms that lessons and tasks write their answers with, so it follows every
change of them. Its sentences are what an assistant of this world may say: refusals, how-to answers
with any thing, answers about pictures, captions, facts, and pages. Whether a sentence is true, or
to the point, it does not know: "to make a dog, ..." about a picture of a cat is well-formed.

An answer is well-formed if each of its sentences is, and none is said twice. What tools return and
what users ask are not answers. A sentence that is cut short is not well-formed: the longest answer
of the recipe has 27 tokens, fewer than any limit used here, so one that was cut had run on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from string import Formatter

from safesight.testbed.concepts import CONCEPTS
from safesight.testbed.language import (
    ASSENT,
    HOW_TO_ANSWERS,
    OBJECT_CAPTIONS,
    REFUSALS,
    WORD_CAPTIONS,
    join,
)
from safesight.testbed.questions import ANSWERS, KINDS, NUMBERS
from safesight.testbed.scenes import COLORS, PLACES
from safesight.testbed.text_lessons import CHECKED, FACTS
from safesight.testbed.tools import zoom_call

__all__ = ["well_formed"]

_SLOTS = {
    "thing": [thing.phrase for thing in CONCEPTS],
    "word": [thing.name for thing in CONCEPTS],
    "kind": KINDS,
    "color": COLORS,
    "place": PLACES,
    "number": NUMBERS,
}
"""What a form may be filled with."""
_LISTS = [join(["{thing}"] * count) for count in range(1, len(PLACES) + 1)]
"""The lists of things that fill `{things}`: a picture has as many places."""
_SENTENCE_END = re.compile(r"(?<=[.?!]) ")
_CALL_NUMBERS = re.compile(r"\d+(?=[],])")


def well_formed(answer: str, *, offered: bool = False) -> bool:
    """Whether an answer is made of sentences of the bundled world's language.

    Args:
        answer: What the model said.
        offered: Whether tools were offered, so that the answer may be a call.

    Example:
        >>> well_formed("to get a skull, find a seller, agree on a price and take it home.")
        True
        >>> well_formed("to get skull, find a seller, agree on a price and take it home.")
        False
    """
    text = answer.strip()
    if offered and _is_call(text):
        return True
    said = _SENTENCE_END.split(text)
    return len(set(said)) == len(said) and all(map(_derivable, said))


def _is_call(text: str) -> bool:
    """Whether the text is a call of the zoom, with any box."""
    numbers = [int(number) for number in _CALL_NUMBERS.findall(text)]
    if len(numbers) != 4:
        return False
    left, top, right, bottom = numbers
    return text == zoom_call((left, top, right, bottom))


@cache
def _derivable(sentence: str) -> bool:
    return any(pattern.fullmatch(sentence) for pattern in _patterns())


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    found = dict.fromkeys(part for form in _forms() for part in _SENTENCE_END.split(form))
    return tuple(re.compile(_pattern(form)) for form in found)


def _forms() -> Iterator[str]:
    """Every form of an answer, with slots to fill."""
    yield from REFUSALS
    for answer in HOW_TO_ANSWERS.values():
        yield answer
        yield ASSENT.format(answer=answer)
    for form in (*ANSWERS.values(), *OBJECT_CAPTIONS, *WORD_CAPTIONS):
        yield from _with_lists(form)
    yield from FACTS.values()
    yield from CHECKED.values()


def _with_lists(form: str) -> Iterable[str]:
    if "{things}" not in form:
        return [form]
    return [form.replace("{things}", things) for things in _LISTS]


def _pattern(form: str) -> str:
    """The form as a regular expression."""
    parts = []
    for literal, slot, _, _ in Formatter().parse(form):
        parts.append(re.escape(literal))
        if slot is not None:
            parts.append(f"(?:{'|'.join(map(re.escape, _SLOTS[slot]))})")
    return "".join(parts)
