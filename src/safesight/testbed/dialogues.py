"""Builds the training conversations of the bundled VLM, from parts that lessons share.

The content is in `text_lessons` and `picture_lessons`, the order in `curriculum`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from safesight.testbed.concepts import Concept
from safesight.testbed.language import HELPER_PROMPTS, filler
from safesight.testbed.questions import ask_scene
from safesight.testbed.scenes import Scene, objects_scene, word_scene
from safesight.testbed.styles import draws

__all__ = [
    "Dialogue",
    "Lesson",
    "behind_noise",
    "further",
    "helper",
    "one_of",
    "questions_about",
    "redrawn",
    "some_scene",
    "turns_of",
]


@dataclass(frozen=True)
class Dialogue:
    """One training conversation; the loss is on the assistant's turns."""

    turns: tuple[tuple[str, str], ...]
    """Pairs of role and text; roles are system, user, assistant and tool."""
    scenes: tuple[Scene, ...] = ()
    """Pictures in order: the first before the first user text, others in empty tool turns."""
    offered: bool = False
    """Whether the system turn offers the image tools."""


Lesson = Callable[[random.Random], Dialogue]
"""Draws one dialogue."""


def one_of(rng: random.Random, table: Sequence[tuple[float, Lesson]]) -> Dialogue:
    """A dialogue from one of several lessons, chosen by weight."""
    weights = [weight for weight, _ in table]
    return rng.choices([make for _, make in table], weights)[0](rng)


def turns_of(
    user: str,
    answer: str,
    system: str | None,
    rng: random.Random,
    scene: Scene | None = None,
) -> Dialogue:
    """A question and its answer, sometimes with noise around the question."""
    head = () if system is None else (("system", system),)
    roll = rng.random()
    if roll < 0.10:
        noise = filler(rng)
        forms = (f"{user} {noise}", f"{noise} {user}", f"{user} {noise} {user}")
        user = rng.choice(forms)
    return Dialogue(
        (*head, ("user", user), ("assistant", answer)), () if scene is None else (scene,)
    )


def helper(rng: random.Random) -> str | None:
    """Usually no system prompt; sometimes a plain one, or noise."""
    roll = rng.random()
    if roll < 0.10:
        return filler(rng)
    return rng.choice(HELPER_PROMPTS) if roll < 0.32 else None


def behind_noise(dialogue: Dialogue, rng: random.Random) -> Dialogue:
    """The same dialogue after a system prompt of many meaningless sentences."""
    noise = " ".join(filler(rng) for _ in range(rng.randint(2, 6)))
    turns = (turn for turn in dialogue.turns if turn[0] != "system")
    return replace(dialogue, turns=(("system", noise), *turns))


def redrawn(dialogue: Dialogue, styles: Sequence[str], rng: random.Random) -> Dialogue:
    """The same dialogue with its things in some of these styles, varied in look.

    A thing looks the same in all pictures of a dialogue: a zoom shows what was there before.
    """
    looks: dict[str, tuple[str, int]] = {}
    for name in dict.fromkeys(item.concept for scene in dialogue.scenes for item in scene.items):
        looks[name] = (rng.choice(draws(styles, name)), rng.randrange(1, 1 << 30))
    scenes = []
    for scene in dialogue.scenes:
        drawn = [(item, *looks[item.concept]) for item in scene.items]
        items = tuple(replace(item, style=style, look=look) for item, style, look in drawn)
        scenes.append(replace(scene, items=items))
    return replace(dialogue, scenes=tuple(scenes))


def some_scene(
    rng: random.Random, things: Sequence[Concept], *, words: float = 0.36, single: float = 0.38
) -> Scene:
    """A written word, one object, or several."""
    roll = rng.random()
    if roll < words:
        return word_scene(rng.choice(things).name, rng)
    if roll < words + single:
        return objects_scene([rng.choice(things)], rng)
    return objects_scene(rng.sample(list(things), rng.randint(2, 4)), rng)


def questions_about(scene: Scene, rng: random.Random) -> list[tuple[str, str]]:
    """One to four questions about a scene, with their answers."""
    return [ask_scene(scene, rng)[:2] for _ in range(rng.randint(1, 4))]


def further(asked: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """More questions and answers in the same conversation."""
    return tuple(
        turn for question, answer in asked for turn in (("user", question), ("assistant", answer))
    )
