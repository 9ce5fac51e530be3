"""The lessons of the text-only safety stage of `testbed-smol`.

A third refuse: a request of a public set, or one about a harmful thing of the bundled world, so
that its tasks are about harm for this model, too. The others hold a harmless request and how the
language model began its answer to it before the stage, which it is to keep (`SafetyTrainer`).
Harmless requests are ours and the model's own: asked to write on after the opening of a user's
turn, it writes what users ask (Xu et al., Magpie, 2024, arXiv 2406.08464). More of them ask how to
do something with a harmless thing than with a harmful one: else the form of that question would be
refused.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from safesight.errors import InputError
from safesight.testbed.concepts import HARMFUL
from safesight.testbed.dialogues import Dialogue, Lesson
from safesight.testbed.smol.answering import KEPT, answered, declines
from safesight.testbed.smol.benign import SAFE, how_to, request
from safesight.testbed.smol.harm import held_out, is_like_any, taught
from safesight.testbed.smol.refusals import refusal

__all__ = ["CASUAL", "FORBIDDEN", "answered_requests", "imagined", "lessons_of"]

_OWN, _TWINS = 0.25, 0.4
"""Shares of the harmless ones that the model writes, and that ask about things of the world."""
_LONGEST = 48
"""Tokens of a request that the model writes."""
_SHORTEST, _MOST = 12, 200
"""Letters of a request that the model writes."""
_BATCH = 50
_PUBLIC, _WORLD = 0.2, 0.15
"""Shares of the lessons that refuse a request of a public set, and one about the world."""
FORBIDDEN = tuple(thing for thing in HARMFUL if thing.in_text_refusals)
"""Things of the world that it is to refuse to help with."""
CASUAL = 0.3
"""Share of requests in lower case."""


def lessons_of(rows: Sequence[tuple[str, str]]) -> Lesson:
    """Refusals of harmful requests, and the beginnings of answers to harmless ones.

    Args:
        rows: Harmless requests with the beginnings of the model's own answers.

    Raises:
        InputError: there are none, or a package that holds harmful requests is not installed.
    """
    if not rows:
        raise InputError("The language model answers no harmless request. Ask more of them.")
    public = taught()

    def lesson(rng: random.Random) -> Dialogue:
        kind = rng.random()
        if kind < _PUBLIC:
            asked, answer = rng.choice(public), refusal(rng)
        elif kind < _PUBLIC + _WORLD:
            asked, answer = how_to(rng, FORBIDDEN), refusal(rng)
        else:
            asked, answer = rng.choice(rows)
            answer += KEPT
        if rng.random() < CASUAL:
            asked = asked.lower()
        return Dialogue((("user", asked), ("assistant", answer)))

    return lesson


def answered_requests(model: Any, processor: Any, n: int, *, seed: int) -> list[tuple[str, str]]:
    """Harmless requests that the model answers, and the beginnings of its greedy answers.

    Args:
        model: The model before the stage.
        processor: Its processor.
        n: How many to ask.
        seed: Chooses the requests.
    """
    rng = random.Random(f"{seed}/benign")
    own, twins = round(_OWN * n), round(_TWINS * n)
    drawn: dict[str, None] = {}
    while len(drawn) < n - own:
        drawn[how_to(rng, SAFE) if len(drawn) < twins else request(rng)] = None
    asked = sorted({*drawn, *imagined(model, processor, own, seed=seed)})
    pairs = zip(asked, answered(model, processor, asked), strict=True)
    return [(text, answer) for text, answer in pairs if not declines(text, answer)]


@torch.no_grad()
def imagined(model: Any, processor: Any, n: int, *, seed: int) -> list[str]:
    """Requests that the model writes when a user's turn begins, in one line, none known as harmful.

    Args:
        model: The language model.
        processor: Its processor.
        n: How many at most; after ten times as many tries it stops.
        seed: Of the draws.
    """
    words = processor.tokenizer
    text = processor.apply_chat_template([{"role": "user", "content": ""}])
    opening = text.removesuffix("\n").removesuffix(words.eos_token)
    inputs = words([opening] * _BATCH, return_tensors="pt", add_special_tokens=False)
    known = [*held_out(), *taught()]
    found: dict[str, None] = {}
    with torch.random.fork_rng():  # what starts at random afterwards does not depend on this
        torch.manual_seed(seed)
        for _ in range(1 + 10 * n // _BATCH):
            if len(found) >= n:
                break
            ids = model.generate(**inputs, max_new_tokens=_LONGEST, do_sample=True, top_p=0.95)
            for row in ids[:, inputs["input_ids"].shape[1] :]:
                said = words.decode(row, skip_special_tokens=True).strip()
                ended = bool((row == words.eos_token_id).any())
                fits = ended and _SHORTEST <= len(said) <= _MOST and "\n" not in said
                if fits and not is_like_any(said, known):
                    found[said] = None
    return list(found)[:n]
