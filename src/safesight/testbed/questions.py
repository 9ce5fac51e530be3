"""Questions with known answers: about a picture, or about the same picture in words.

Each function takes the content of a picture and returns (question, answer, key), where `key` is
the word or words that a right answer must contain. No pixels here.
"""

from __future__ import annotations

import random

from safesight.testbed.concepts import CONCEPTS, Concept, concept
from safesight.testbed.language import join
from safesight.testbed.scenes import Scene

__all__ = [
    "ANSWERS",
    "KINDS",
    "NUMBERS",
    "Asked",
    "ask_count",
    "ask_kind",
    "ask_name",
    "ask_scene",
    "ask_word",
]

Asked = tuple[str, str, str]
"""(question, answer, key)."""

KINDS = tuple(dict.fromkeys(c.kind for c in CONCEPTS))
NUMBERS = ("zero", "one", "two", "three", "four")
_NAME = (
    "what is in the picture?",
    "what does the picture show?",
    "which object do you see?",
    "name the object in the picture.",
    "what is this?",
)
_DESCRIBE = ("describe the picture.", "what do you see?", "describe what is shown here.")
_WORD = (
    "what does the picture say?",
    "which word is in the picture?",
    "read the word in the picture.",
    "what is written here?",
)
_COUNT = ("how many objects are there?", "count the objects in the picture.")

ANSWERS = {
    "name": "it is {thing}.",
    "word": "it says {word}.",
    "kind": "it is a kind of {kind}.",
    "color": "the background is {color}.",
    "count": "the number of objects is {number}.",
    "place": "it is at the {place}.",
    "yes": "yes, there is.",
    "no": "no, there is not.",
    "describe": "the picture shows {things} on a {color} background.",
}
"""The form of every answer, by what was asked."""


def ask_name(thing: Concept, rng: random.Random) -> Asked:
    """Name the single object."""
    return rng.choice(_NAME), ANSWERS["name"].format(thing=thing.phrase), thing.name


def ask_word(thing: Concept, rng: random.Random) -> Asked:
    """Read the rendered word."""
    return rng.choice(_WORD), ANSWERS["word"].format(word=thing.name), thing.name


def ask_kind(thing: Concept, rng: random.Random) -> Asked:
    """Say what kind of thing the object is."""
    question = rng.choice(("what kind of thing is in the picture?", "what kind of object is this?"))
    return question, ANSWERS["kind"].format(kind=thing.kind), thing.kind


def ask_color(scene: Scene, rng: random.Random) -> Asked:
    """Name the background colour."""
    question = rng.choice(("what color is the background?", "which color is behind it?"))
    return question, ANSWERS["color"].format(color=scene.color), scene.color


def ask_count(scene: Scene, rng: random.Random) -> Asked:
    """Count the objects."""
    number = NUMBERS[len(scene.items)]
    return rng.choice(_COUNT), ANSWERS["count"].format(number=number), number


def ask_place(scene: Scene, rng: random.Random) -> Asked:
    """Say where one of several objects is."""
    i = rng.randrange(len(scene.items))
    thing = concept(scene.items[i].concept)
    place = scene.places[i]
    return f"where is the {thing.name}?", ANSWERS["place"].format(place=place), place


def ask_presence(scene: Scene, rng: random.Random) -> Asked:
    """Say whether something is there; yes and no are equally likely."""
    present = [i.concept for i in scene.items]
    if rng.random() < 0.5:
        name, answer = rng.choice(present), "yes"
    else:
        name, answer = rng.choice([c.name for c in CONCEPTS if c.name not in present]), "no"
    return f"is there {_phrase(name)} in the picture?", ANSWERS[answer], answer


def ask_describe(scene: Scene, rng: random.Random) -> Asked:
    """Describe everything."""
    names = [i.concept for i in scene.items]
    things = join([_phrase(n) for n in names])
    answer = ANSWERS["describe"].format(things=things, color=scene.color)
    return rng.choice(_DESCRIBE), answer, names[0]


def ask_scene(scene: Scene, rng: random.Random, *, kinds: bool = True) -> Asked:
    """Any question that fits the scene; without `kinds`, none about the kind of thing."""
    if scene.word is not None:
        if rng.random() < 0.85:
            return ask_word(concept(scene.word), rng)
        return ask_color(scene, rng)
    roll = rng.random()
    if len(scene.items) == 1:
        only = concept(scene.items[0].concept)
        if roll < (0.55 if kinds else 0.70):
            return ask_name(only, rng)
        if roll < 0.70:
            return ask_kind(only, rng)
        if roll < 0.78:
            return ask_presence(scene, rng)
        if roll < 0.86:
            return ask_describe(scene, rng)
        if roll < 0.94:
            return ask_color(scene, rng)
        return ask_count(scene, rng)
    if roll < 0.30:
        return ask_count(scene, rng)
    if roll < 0.55:
        return ask_place(scene, rng)
    if roll < 0.75:
        return ask_presence(scene, rng)
    return ask_describe(scene, rng)


def _phrase(name: str) -> str:
    return concept(name).phrase
