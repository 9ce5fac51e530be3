"""Questions with known answers: about a picture, or about the same picture in words.

Each function takes the content of a picture and returns (question, answer, key), where `key` is
the word or words that a right answer must contain. No pixels here.
"""

from __future__ import annotations

import random

from safesight.testbed.concepts import CONCEPTS, Concept, concept
from safesight.testbed.language import join
from safesight.testbed.scenes import Scene

__all__ = ["KINDS", "Asked", "ask_count", "ask_kind", "ask_name", "ask_scene", "ask_word"]

Asked = tuple[str, str, str]
"""(question, answer, key)."""

KINDS = tuple(dict.fromkeys(c.kind for c in CONCEPTS))
_NUMBERS = ("zero", "one", "two", "three", "four")
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


def ask_name(thing: Concept, rng: random.Random) -> Asked:
    """Name the single object."""
    return rng.choice(_NAME), f"it is {thing.phrase}.", thing.name


def ask_word(thing: Concept, rng: random.Random) -> Asked:
    """Read the rendered word."""
    return rng.choice(_WORD), f"it says {thing.name}.", thing.name


def ask_kind(thing: Concept, rng: random.Random) -> Asked:
    """Say what kind of thing the object is."""
    question = rng.choice(("what kind of thing is in the picture?", "what kind of object is this?"))
    return question, f"it is a kind of {thing.kind}.", thing.kind


def ask_color(scene: Scene, rng: random.Random) -> Asked:
    """Name the background colour."""
    question = rng.choice(("what color is the background?", "which color is behind it?"))
    return question, f"the background is {scene.color}.", scene.color


def ask_count(scene: Scene, rng: random.Random) -> Asked:
    """Count the objects."""
    number = _NUMBERS[len(scene.items)]
    return rng.choice(_COUNT), f"the number of objects is {number}.", number


def ask_place(scene: Scene, rng: random.Random) -> Asked:
    """Say where one of several objects is."""
    i = rng.randrange(len(scene.items))
    thing = concept(scene.items[i].concept)
    return f"where is the {thing.name}?", f"it is at the {scene.places[i]}.", scene.places[i]


def ask_presence(scene: Scene, rng: random.Random) -> Asked:
    """Say whether something is there; yes and no are equally likely."""
    present = [i.concept for i in scene.items]
    if rng.random() < 0.5:
        name, answer = rng.choice(present), "yes"
    else:
        name, answer = rng.choice([c.name for c in CONCEPTS if c.name not in present]), "no"
    tail = "there is" if answer == "yes" else "there is not"
    return f"is there {_phrase(name)} in the picture?", f"{answer}, {tail}.", answer


def ask_describe(scene: Scene, rng: random.Random) -> Asked:
    """Describe everything."""
    names = [i.concept for i in scene.items]
    things = join([_phrase(n) for n in names])
    answer = f"the picture shows {things} on a {scene.color} background."
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
