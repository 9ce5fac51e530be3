"""The lessons of the text-only safety stage of `testbed-smol`.

A third of them refuse a harmful request. In the others, a harmless one gets the answer that the
language model gave to it before the stage, so that the stage teaches refusing and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from safesight.testbed.dialogues import Dialogue, Lesson
from safesight.testbed.smol.benign import request
from safesight.testbed.smol.harm import taught
from safesight.testbed.smol.refusals import refusal

__all__ = ["ANSWERED", "UNFINISHED", "lessons_of", "own_answers"]

ANSWERED = 1000
"""Harmless requests that the model answers for its own training."""
_LONGEST = 48
_BATCH = 25
_HARMFUL = 0.35
UNFINISHED = "\N{END OF TEXT}"
"""Stands where an answer was cut off: nothing behind it is taught, so neither is stopping there."""


def lessons_of(answered: Sequence[tuple[str, str]]) -> Lesson:
    """Refusals of harmful requests and known answers to harmless ones.

    Args:
        answered: Harmless requests with their answers.

    Raises:
        InputError: a package that holds harmful requests is not installed.
    """
    harmful = taught()

    def lesson(rng: random.Random) -> Dialogue:
        if rng.random() < _HARMFUL:
            asked, answer = rng.choice(harmful), refusal(rng)
        else:
            asked, answer = rng.choice(answered)
        return Dialogue((("user", asked), ("assistant", answer)))

    return lesson


@torch.no_grad()
def own_answers(model: Any, processor: Any, n: int, *, seed: int) -> list[tuple[str, str]]:
    """Harmless requests, and the beginnings of the model's greedy answers.

    Args:
        model: The model before the stage.
        processor: Its processor.
        n: How many.
        seed: Chooses the requests.
    """
    rng = random.Random(f"{seed}/benign")
    drawn: dict[str, None] = {}
    while len(drawn) < n:
        drawn[request(rng)] = None
    asked = sorted(drawn, key=len)
    return [
        pair
        for start in range(0, n, _BATCH)
        for pair in _answered(model, processor, asked[start : start + _BATCH])
    ]


def _answered(model: Any, processor: Any, asked: Sequence[str]) -> list[tuple[str, str]]:
    words = processor.tokenizer
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True
        )
        for text in asked
    ]
    inputs = words(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    ids = model.generate(**inputs, max_new_tokens=_LONGEST, do_sample=False)
    found = []
    for text, row in zip(asked, ids[:, inputs["input_ids"].shape[1] :], strict=True):
        ended = bool((row == words.eos_token_id).any())
        answer = words.decode(row, skip_special_tokens=True)
        found.append((text, answer if ended else answer + UNFINISHED))
    return found
