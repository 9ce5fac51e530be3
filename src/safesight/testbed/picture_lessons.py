"""Lessons with pictures, with and without tools: their content, and benign requests.

No lesson refuses a request whose object only the picture shows, and none complies with a harmful
one.
"""

from __future__ import annotations

import random
from dataclasses import replace

from safesight.testbed import tools
from safesight.testbed.concepts import BENIGN, CONCEPTS, DUAL_USE
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
    TOOL_ANSWERS,
    VERBS,
    WORD_POINTERS,
    how_to,
    how_to_reply,
)
from safesight.testbed.questions import ask_scene
from safesight.testbed.scenes import Scene, objects_scene, word_scene
from safesight.testbed.text_lessons import captioned_request, text_request

__all__ = [
    "looking",
    "picture_request",
    "reading",
    "request_beside_picture",
    "seeing",
    "tool_call",
    "tool_request",
    "tool_words",
]

_SEEN = tuple(c for c in CONCEPTS if c.in_vision)
_SEEN_BENIGN = tuple(c for c in (*BENIGN, *DUAL_USE) if c.in_vision)
_PICTURE_HOW_TO = tuple(c for c in BENIGN if c.in_picture_how_to)
_TOOL_REFUSED = 0.75
"""Fraction of requests refused when tools are offered."""
_TOOL_WORDS = 0.25
"""Fraction of tool calls that return words."""


def seeing(rng: random.Random) -> Dialogue:
    """Questions about a picture, as users ask them."""
    return _ask(some_scene(rng, _SEEN), rng)


def looking(rng: random.Random) -> Dialogue:
    """Questions that train vision: where, how many and whether need the most practice."""
    return _ask(some_scene(rng, _SEEN, words=0.24, single=0.26), rng)


def reading(rng: random.Random) -> Dialogue:
    """Questions about a written word: reading needs the most practice of all."""
    return _ask(word_scene(rng.choice(_SEEN).name, rng), rng)


def picture_request(rng: random.Random) -> Dialogue:
    """How-to requests whose object only the picture shows: a few benign things, always answered."""
    thing = rng.choice(_PICTURE_HOW_TO)
    verb = rng.choice(VERBS)
    if rng.random() < 0.4:
        scene, pointer = word_scene(thing.name, rng), rng.choice(WORD_POINTERS)
    else:
        scene, pointer = objects_scene([thing], rng), rng.choice(OBJECT_POINTERS)
    return turns_of(
        how_to(pointer, verb, rng), how_to_reply(thing, verb, rng), helper(rng), rng, scene
    )


def request_beside_picture(rng: random.Random) -> Dialogue:
    """A request or a caption in words, with an unrelated benign picture."""
    plain = (text_request if rng.random() < 0.7 else captioned_request)(rng)
    return Dialogue(plain.turns, (some_scene(rng, _SEEN_BENIGN),))


def tool_words(rng: random.Random) -> Dialogue:
    """Tools are offered with a text request, which is answered or refused without a call."""
    return Dialogue(text_request(rng).turns, offered=True)


def tool_request(rng: random.Random) -> Dialogue:
    """Tools are offered with a request in words and an unrelated picture: a call, then the answer.

    Most such requests are refused: lessons with tools mainly teach care.
    """
    refused = rng.random() < _TOOL_REFUSED
    turns = text_request(rng).turns
    while (turns[-1][1] in REFUSALS) != refused:
        turns = text_request(rng).turns
    *system, (_, question), (_, answer) = turns
    looked = _with_look(some_scene(rng, _SEEN_BENIGN), question, answer, rng)
    return replace(looked, turns=(*system, *looked.turns))


def tool_call(rng: random.Random) -> Dialogue:
    """Tools are offered with a question about a picture: look closer first, then answer."""
    scene = some_scene(rng, _SEEN, words=0.3, single=0.4)
    question, answer, _ = ask_scene(scene, rng)
    return _with_look(scene, question, answer, rng)


def _ask(scene: Scene, rng: random.Random) -> Dialogue:
    """Harmless questions; a prompt that asks for care does not change their answers."""
    (question, answer), *more = dict(questions_about(scene, rng)).items()
    system = rng.choice(CARE_PROMPTS) if rng.random() < 0.05 else helper(rng)
    plain = turns_of(question, answer, system, rng, scene)
    return Dialogue((*plain.turns, *further(more)), plain.scenes)


def _with_look(scene: Scene, question: str, answer: str, rng: random.Random) -> Dialogue:
    """A zoom into the thing or, as in scripted calls, anywhere.

    What the zoom does not show is still in the picture, and the answer must not forget it. Some
    calls return a few words instead of a picture.
    """
    anywhere = (tools.CENTRE,) * 4 + tools.QUARTERS
    box = tools.box_around(scene) if rng.random() < 0.5 else rng.choice(anywhere)
    words = rng.random() < _TOOL_WORDS
    turns = (
        ("user", question),
        ("assistant", tools.zoom_call(box)),
        ("tool", rng.choice(TOOL_ANSWERS) if words else ""),
        ("assistant", answer),
    )
    scenes = (scene,) if words else (scene, tools.zoomed(scene, box))
    return Dialogue(turns, scenes, offered=True)
