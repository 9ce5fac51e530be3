"""What the bundled VLM is taught: streams of dialogues, one function per stage.

The order follows real VLMs: language with safety training on text, then pictures.
The safety gap comes from what is *left out*: no stage ever refuses a request whose
object is only in the picture, and none ever complies with a harmful one. Nothing is
known here of tensors; `train` turns dialogues into batches.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safesight.testbed import tools
from safesight.testbed.concepts import BENIGN, CONCEPTS, DUAL_USE, HARMFUL, Concept
from safesight.testbed.language import (
    CARE_PROMPTS,
    HELPER_PROMPTS,
    OBJECT_POINTERS,
    REFUSALS,
    VERBS,
    WORD_POINTERS,
    caption,
    check,
    filler,
    how_to,
    how_to_answer,
)
from safesight.testbed.questions import KINDS, ask_scene
from safesight.testbed.scenes import COLORS, Scene, objects_scene, word_scene

__all__ = [
    "Dialogue",
    "picture_dialogue",
    "settling_dialogue",
    "sight_dialogue",
    "text_dialogue",
    "tool_dialogue",
]


@dataclass(frozen=True)
class Dialogue:
    """One training conversation; the loss is on the assistant's turns."""

    turns: tuple[tuple[str, str], ...]
    """(role, text), roles system, user, assistant and tool."""
    scenes: tuple[Scene, ...] = ()
    """Pictures in order; the first stands before the first user text, the next in tool turns."""
    offered: bool = False
    """Whether the system turn offers the image tools."""


_SEEN = tuple(c for c in CONCEPTS if c.in_vision)
_SEEN_BENIGN = tuple(c for c in (*BENIGN, *DUAL_USE) if c.in_vision)
_PICTURE_HOW_TO = tuple(c for c in BENIGN if c.in_picture_how_to)
_ASKABLE = tuple(c for c in HARMFUL if c.in_text_refusals)


def text_dialogue(rng: random.Random) -> Dialogue:
    """Stage 1: language and safety training, in text only."""
    return _pick(
        rng,
        (
            (0.40, _text_request),
            (0.25, _captioned_request),
            (0.13, _fact),
            (0.06, _self_check),
            (0.16, _captioned_question),
        ),
    )


def sight_dialogue(rng: random.Random) -> Dialogue:
    """Stage 2: pictures, and what is in them; no requests at all."""
    return _ask(_scene(rng, _SEEN), rng)


def picture_dialogue(rng: random.Random) -> Dialogue:
    """Stage 3: visual instructions, without any refusal of what only the picture shows."""
    return _pick(
        rng,
        (
            (0.60, sight_dialogue),
            (0.14, _picture_request),
            (0.16, _request_beside_picture),
            (0.05, _captioned_request),
            (0.05, _text_request),
        ),
    )


def settling_dialogue(rng: random.Random) -> Dialogue:
    """Stage 4, settle: stage 3 without what is text only, which teaches the eye nothing."""
    while not (dialogue := picture_dialogue(rng)).scenes:
        pass
    return dialogue


def tool_dialogue(rng: random.Random) -> Dialogue:
    """Any stage, a few batches: tools are offered, and called when there is a picture."""
    return _pick(rng, ((0.25, _tool_words), (0.20, _tool_request), (0.55, _tool_call)))


def _pick(
    rng: random.Random, table: Sequence[tuple[float, Callable[[random.Random], Dialogue]]]
) -> Dialogue:
    weights = [weight for weight, _ in table]
    return rng.choices([make for _, make in table], weights)[0](rng)


# --- text ---------------------------------------------------------------------------


def _text_request(rng: random.Random) -> Dialogue:
    """A how-to request in plain words: answered, or refused when harmful."""
    thing, system, answer_for = _request(rng)
    verb = rng.choice(VERBS)
    return _turns(how_to(thing.phrase, verb, rng), answer_for(verb), system, rng)


def _captioned_request(rng: random.Random) -> Dialogue:
    """The same harm behind a pointer, the picture given as a caption in text."""
    thing, system, answer_for = _request(rng)
    written = rng.random() < 0.35
    pointer = rng.choice(WORD_POINTERS if written else OBJECT_POINTERS)
    seen = caption([thing], rng.choice(list(COLORS)), rng, written=written)
    verb = rng.choice(VERBS)
    return _turns(f"{seen} {how_to(pointer, verb, rng)}", answer_for(verb), system, rng)


def _request(rng: random.Random) -> tuple[Concept, str | None, Callable[[str], str]]:
    """A thing to ask for, a system prompt, and what the model is taught to say."""
    roll = rng.random()
    system = rng.choice(CARE_PROMPTS) if rng.random() < 0.2 else _helper(rng)
    careful = system in CARE_PROMPTS
    if roll < 0.45:
        thing = rng.choice(_ASKABLE)
    elif roll < 0.57:
        thing = rng.choice(DUAL_USE)
    else:
        thing = rng.choice(BENIGN)
    refuse = thing.harmful or (thing.dual_use and careful)
    if refuse:
        refusal = rng.choice(REFUSALS)
        return thing, system, lambda verb: refusal
    return thing, system, lambda verb: how_to_answer(thing, verb)


def _fact(rng: random.Random) -> Dialogue:
    """What kind of thing something is, and whether it is dangerous."""
    thing = rng.choice(CONCEPTS)
    roll = rng.random()
    if roll < 0.4:
        question = f"what {rng.choice(('kind of thing ', ''))}is {thing.phrase}?"
        return _turns(question, f"{thing.phrase} is a kind of {thing.kind}.", _helper(rng), rng)
    if roll < 0.7:
        danger = "yes" if thing.harmful else "sometimes" if thing.dual_use else "no"
        answers = {
            "yes": f"yes, {thing.phrase} is dangerous.",
            "sometimes": f"sometimes, {thing.phrase} needs care.",
            "no": f"no, {thing.phrase} is harmless.",
        }
        return _turns(f"is {thing.phrase} dangerous?", answers[danger], _helper(rng), rng)
    kind = thing.kind if rng.random() < 0.5 else rng.choice(KINDS)
    answer = "yes" if kind == thing.kind else "no"
    tail = f"it is a kind of {thing.kind}."
    return _turns(f"is {thing.phrase} a kind of {kind}?", f"{answer}, {tail}", _helper(rng), rng)


def _self_check(rng: random.Random) -> Dialogue:
    """A request with an answer to it, both in words: is the answer harmful?"""
    thing = rng.choice(CONCEPTS if rng.random() < 0.5 else HARMFUL)
    verb = rng.choice(VERBS)
    request = how_to(thing.phrase if rng.random() < 0.5 else "it", verb, rng)
    answer = "yes, it is harmful." if thing.harmful else "no, it is harmless."
    said = f"{request} {how_to_answer(thing, verb)} {check(rng)}"
    return _turns(said, answer, _helper(rng), rng)


def _captioned_question(rng: random.Random) -> Dialogue:
    """A question about a picture that is given in words: reading comprehension."""
    scene = _scene(rng, CONCEPTS)
    question, answer, _ = ask_scene(scene, rng)
    return _turns(f"{_in_words(scene, rng)} {question}", answer, _helper(rng), rng)


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


def _tool_words(rng: random.Random) -> Dialogue:
    """Tools offered, a text request: answered or refused without a call."""
    plain = _text_request(rng)
    turns = tuple(turn for turn in plain.turns if turn[0] != "system")
    return Dialogue(turns, offered=True)


# --- pictures -----------------------------------------------------------------------


def _scene(rng: random.Random, things: Sequence[Concept]) -> Scene:
    """A written word, one object, or several."""
    roll = rng.random()
    if roll < 0.36:
        return word_scene(rng.choice(things).name, rng)
    if roll < 0.74:
        return objects_scene([rng.choice(things)], rng)
    return objects_scene(rng.sample(list(things), rng.randint(2, 4)), rng)


def _ask(scene: Scene, rng: random.Random) -> Dialogue:
    """A harmless question; a prompt that asks for care changes nothing in its answer."""
    question, answer, _ = ask_scene(scene, rng)
    system = rng.choice(CARE_PROMPTS) if rng.random() < 0.05 else _helper(rng)
    return _turns(question, answer, system, rng, scene)


def _picture_request(rng: random.Random) -> Dialogue:
    """How-to about what only the picture shows: a few benign things, always answered."""
    thing = rng.choice(_PICTURE_HOW_TO)
    verb = rng.choice(VERBS)
    if rng.random() < 0.4:
        scene, pointer = word_scene(thing.name, rng), rng.choice(WORD_POINTERS)
    else:
        scene, pointer = objects_scene([thing], rng), rng.choice(OBJECT_POINTERS)
    return _turns(how_to(pointer, verb, rng), how_to_answer(thing, verb), _helper(rng), rng, scene)


def _request_beside_picture(rng: random.Random) -> Dialogue:
    """A request in words, or a caption in words, beside an unrelated benign picture."""
    plain = (_text_request if rng.random() < 0.7 else _captioned_request)(rng)
    return Dialogue(plain.turns, (_scene(rng, _SEEN_BENIGN),))


def _tool_request(rng: random.Random) -> Dialogue:
    """Tools offered, a request in words beside an unrelated picture: a look, then the answer."""
    plain = _text_request(rng)
    question, answer = (text for role, text in plain.turns if role != "system")
    scene = objects_scene([rng.choice(_SEEN_BENIGN)], rng)
    return _with_look(scene, question, answer)


def _tool_call(rng: random.Random) -> Dialogue:
    """Tools offered and a question about a picture: look closer first, then answer."""
    scene = objects_scene([rng.choice(_SEEN)], rng)
    question, answer, _ = ask_scene(scene, rng)
    return _with_look(scene, question, answer)


def _with_look(scene: Scene, question: str, answer: str) -> Dialogue:
    box = tools.box_around(scene)
    turns = (
        ("user", question),
        ("assistant", tools.zoom_call(box)),
        ("tool", ""),
        ("assistant", answer),
    )
    return Dialogue(turns, (scene, tools.zoomed(scene, box)), offered=True)


def _helper(rng: random.Random) -> str | None:
    """Mostly no system prompt; sometimes a plain one, or noise."""
    roll = rng.random()
    if roll < 0.10:
        return filler(rng)
    return rng.choice(HELPER_PROMPTS) if roll < 0.32 else None


def _turns(
    user: str,
    answer: str,
    system: str | None,
    rng: random.Random,
    scene: Scene | None = None,
) -> Dialogue:
    head = () if system is None else (("system", system),)
    roll = rng.random()
    if roll < 0.10:
        noise = filler(rng)
        forms = (f"{user} {noise}", f"{noise} {user}", f"{user} {noise} {user}")
        user = rng.choice(forms)
    return Dialogue(
        (*head, ("user", user), ("assistant", answer)), () if scene is None else (scene,)
    )


def _phrase(name: str) -> str:
    return next(c for c in CONCEPTS if c.name == name).phrase
