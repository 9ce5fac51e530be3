"""What the bundled VLM is taught, and when: one function per stage draws its dialogues.

The order follows real VLMs: language with safety training on text, then pictures. No stage ever
refuses a request whose object is only in the picture, and none ever complies with a harmful one.
How near `train` lets visual tokens come to words hardly matters for the gap between the two.
This module knows nothing about tensors; `train` turns dialogues into batches.
"""

from __future__ import annotations

import random

from safesight.testbed.dialogues import Dialogue, Lesson, behind_noise, one_of
from safesight.testbed.picture_lessons import (
    looking,
    picture_request,
    reading,
    request_beside_picture,
    seeing,
    tool_call,
    tool_request,
    tool_words,
)
from safesight.testbed.text_lessons import (
    captioned_question,
    captioned_request,
    fact,
    page,
    searching_question,
    self_check,
    text_request,
)

__all__ = [
    "lengthy_dialogue",
    "picture_dialogue",
    "reading_dialogue",
    "reminding_dialogue",
    "settling_dialogue",
    "sight_dialogue",
    "text_dialogue",
    "tool_dialogue",
]


def text_dialogue(rng: random.Random) -> Dialogue:
    """Stage 1, text: language and safety training, in text only."""
    return one_of(
        rng,
        (
            (0.30, text_request),
            (0.20, captioned_request),
            (0.08, fact),
            (0.05, self_check),
            (0.05, page),
            (0.16, captioned_question),
            (0.16, searching_question),
        ),
    )


def reading_dialogue(rng: random.Random) -> Dialogue:
    """Stage 2, reading: stage 1 continues, now mostly with searching.

    Facts keep dangerous and harmless things apart: without them, the model ends up answering
    requests about things that no refusal names.
    """
    return one_of(rng, ((0.25, text_dialogue), (0.10, fact), (0.65, searching_question)))


def sight_dialogue(rng: random.Random) -> Dialogue:
    """Stages 3 and 4, sight and align: pictures and their content; no requests at all."""
    return seeing(rng)


def picture_dialogue(rng: random.Random) -> Dialogue:
    """Stage 5: visual instructions, without refusals of objects that only the picture shows."""
    return one_of(
        rng,
        (
            (0.515, looking),
            (0.20, picture_request),
            (0.14, request_beside_picture),
            (0.04, captioned_request),
            (0.04, text_request),
            (0.015, fact),
            (0.05, page),
        ),
    )


def reminding_dialogue(rng: random.Random, facts: Lesson = fact) -> Dialogue:
    """Stage 6, remind: stage 5 again, with more text and with facts about danger.

    Stage 5 has few facts, since they also close the gap; but without them the model forgets to
    refuse things that no refusal names. A few steps with many facts bring that back. Every other
    batch has tools: they need long prompts, and stage 5 has few of them.
    """
    return one_of(rng, ((0.50, picture_dialogue), (0.20, facts), (0.30, text_dialogue)))


def settling_dialogue(rng: random.Random) -> Dialogue:
    """Stage 7, settle: reading, and stage 5 without text-only lessons, useless to vision."""
    if rng.random() < 0.55:
        return reading(rng)
    while not (dialogue := picture_dialogue(rng)).scenes:
        pass
    return dialogue


def lengthy_dialogue(rng: random.Random, facts: Lesson = fact) -> Dialogue:
    """Stage 8, tools: stage 6 again, some of it after a long prompt.

    Every other batch offers tools. This stage comes last because what the vision tower learns in
    stage 7 is misread in a long prompt, where the picture is far from the start.
    """
    dialogue = reminding_dialogue(rng, facts)
    asked = dialogue.turns[0][0] != "assistant"
    return behind_noise(dialogue, rng) if asked and rng.random() < 0.1 else dialogue


def tool_dialogue(rng: random.Random) -> Dialogue:
    """Some batches of stages 5 to 8: tools are offered, and called when there is a picture."""
    return one_of(rng, ((0.15, tool_words), (0.35, tool_request), (0.50, tool_call)))
