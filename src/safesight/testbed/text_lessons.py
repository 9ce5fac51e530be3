"""Lessons in words: requests answered or refused, facts, pages, and pictures described in words.

All harmful requests are refused; no lesson here has a picture.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from safesight.testbed.concepts import BENIGN, CONCEPTS, DUAL_USE, HARMFUL, Concept
from safesight.testbed.dialogues import (
    Dialogue,
    further,
    helper,
    questions_about,
    some_scene,
    turns_of,
)
from safesight.testbed.language import (
    CARE_PROMPTS,
    OBJECT_POINTERS,
    REFUSALS,
    VERBS,
    WORD_POINTERS,
    caption,
    check,
    how_to,
    how_to_answer,
    how_to_reply,
)
from safesight.testbed.layout import spelled
from safesight.testbed.questions import KINDS, ask_place, ask_presence, ask_scene
from safesight.testbed.scenes import COLORS, Scene, objects_scene

__all__ = [
    "CHECKED",
    "FACTS",
    "asked_for",
    "captioned_question",
    "captioned_request",
    "fact",
    "fact_about",
    "page",
    "refused",
    "searching_question",
    "self_check",
    "text_request",
]

_ASKABLE = tuple(c for c in HARMFUL if c.in_text_refusals)

FACTS = {
    "kind": "{thing} is a kind of {kind}.",
    "dangerous": "yes, {thing} is dangerous.",
    "careful": "sometimes, {thing} needs care.",
    "safe": "no, {thing} is harmless.",
    "of this kind": "yes, it is a kind of {kind}.",
    "of another kind": "no, it is a kind of {kind}.",
}
"""The form of every fact, by what it says."""
CHECKED = {True: "yes, it is harmful.", False: "no, it is harmless."}
"""What a check of an answer finds, by whether the thing is harmful."""


def text_request(rng: random.Random) -> Dialogue:
    """A how-to request in plain words, answered or, if harmful, refused."""
    thing, system, answer_for = _request(rng)
    verb = rng.choice(VERBS)
    return turns_of(how_to(thing.phrase, verb, rng), answer_for(verb), system, rng)


def captioned_request(rng: random.Random) -> Dialogue:
    """The same harm with a pointer to the object, and the picture given as a caption in text."""
    thing, system, answer_for = _request(rng)
    written = rng.random() < 0.35
    pointer = rng.choice(WORD_POINTERS if written else OBJECT_POINTERS)
    seen = caption([thing], rng.choice(list(COLORS)), rng, written=written)
    verb = rng.choice(VERBS)
    return turns_of(f"{seen} {how_to(pointer, verb, rng)}", answer_for(verb), system, rng)


def _request(rng: random.Random) -> tuple[Concept, str | None, Callable[[str], str]]:
    """A thing to ask for, a system prompt, and the answer to teach."""
    roll = rng.random()
    system = rng.choice(CARE_PROMPTS) if rng.random() < 0.2 else helper(rng)
    thing = asked_for(roll, rng)
    if refused(thing, system in CARE_PROMPTS, rng):
        refusal = rng.choice(REFUSALS)
        return thing, system, lambda verb: refusal
    return thing, system, lambda verb: how_to_reply(thing, verb, rng)


def asked_for(roll: float, rng: random.Random) -> Concept:
    """The object of a request; `roll` is in [0, 1)."""
    if roll < 0.45:
        return rng.choice(_ASKABLE)
    return rng.choice(DUAL_USE if roll < 0.57 else BENIGN)


def refused(thing: Concept, careful: bool, rng: random.Random) -> bool:
    """The policy to teach: refuse harmful things and, with a prompt for care, dual-use ones."""
    return thing.harmful or (thing.dual_use and careful)


def fact(rng: random.Random) -> Dialogue:
    """A fact: what kind of thing something is, or whether it is dangerous."""
    thing = rng.choice(CONCEPTS)
    return fact_about(thing, thing, rng)


def fact_about(thing: Concept, told: Concept, rng: random.Random) -> Dialogue:
    """A statement about `thing` that is true of `told`; for a fact they are the same."""
    roll = rng.random()
    if roll < 0.4:
        question = f"what {rng.choice(('kind of thing ', ''))}is {thing.phrase}?"
        return turns_of(
            question, FACTS["kind"].format(thing=thing.phrase, kind=told.kind), helper(rng), rng
        )
    if roll < 0.7:
        danger = "dangerous" if told.harmful else "careful" if told.dual_use else "safe"
        answer = FACTS[danger].format(thing=thing.phrase)
        return turns_of(f"is {thing.phrase} dangerous?", answer, helper(rng), rng)
    kind = told.kind if rng.random() < 0.5 else rng.choice(KINDS)
    answer = FACTS["of this kind" if kind == told.kind else "of another kind"]
    question = f"is {thing.phrase} a kind of {kind}?"
    return turns_of(question, answer.format(kind=told.kind), helper(rng), rng)


def self_check(rng: random.Random) -> Dialogue:
    """A request and an answer to it, both in words, and a question: is the answer harmful?"""
    thing = rng.choice(CONCEPTS if rng.random() < 0.5 else HARMFUL)
    verb = rng.choice(VERBS)
    request = how_to(thing.phrase if rng.random() < 0.5 else "it", verb, rng)
    said = f"{request} {how_to_answer(thing, verb)} {check(rng)}"
    return turns_of(said, CHECKED[thing.harmful], helper(rng), rng)


def page(rng: random.Random) -> Dialogue:
    """A page without a request, as in text corpora: what a thing is, and a how-to without content.

    A model that has never written "to build a <harmful thing>" writes benign names there.
    """
    thing = rng.choice(HARMFUL if rng.random() < 0.5 else CONCEPTS)
    known = FACTS["kind"].format(thing=thing.phrase, kind=thing.kind)
    return Dialogue((("assistant", f"{known} {how_to_answer(thing, rng.choice(VERBS))}"),))


def captioned_question(rng: random.Random) -> Dialogue:
    """Questions about a picture described in words: reading comprehension."""
    scene = some_scene(rng, CONCEPTS, words=0.25, single=0.25)
    seen = _in_words(scene, rng) if rng.random() < 0.5 else spelled(scene)
    return _asked(seen, questions_about(scene, rng), rng)


def searching_question(rng: random.Random) -> Dialogue:
    """Questions about places and presence, for a picture of several things described in words."""
    scene = objects_scene(rng.sample(list(CONCEPTS), rng.randint(2, 4)), rng)
    seen = _in_words(scene, rng) if rng.random() < 0.5 else spelled(scene)
    kinds = rng.choices((ask_place, ask_presence, ask_scene), (4, 4, 2), k=4)
    return _asked(seen, [ask(scene, rng)[:2] for ask in kinds], rng)


def _asked(seen: str, questions: Sequence[tuple[str, str]], rng: random.Random) -> Dialogue:
    """Questions about a description, one after the other."""
    (question, answer), *more = dict(questions).items()
    plain = turns_of(f"{seen} {question}", answer, helper(rng), rng)
    return Dialogue((*plain.turns, *further(more)))


def _in_words(scene: Scene, rng: random.Random) -> str:
    ground = f"the background is {scene.color}."
    if scene.word is not None:
        return f"the picture says {scene.word}. {ground}"
    if not scene.places:
        (item,) = scene.items
        return f"the picture shows {_phrase(item.concept)}. {ground}"
    parts = [
        f"at the {place} there is {_phrase(item.concept)}."
        for item, place in zip(scene.items, scene.places, strict=True)
    ]
    return " ".join([*parts, ground])


def _phrase(name: str) -> str:
    return next(c for c in CONCEPTS if c.name == name).phrase
