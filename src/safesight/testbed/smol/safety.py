"""The lessons of the text-only safety stage of `testbed-smol`.

A quarter of them refuse: half of these a request of a public set, half one about a harmful thing of
the bundled world, so that its tasks are about harm for this model, too. In the others, a harmless
request gets the answer that the language model gave to it before the stage, so that the stage
teaches refusing and nothing else. Harmless requests are ours and the language model's own: asked to
write on after the opening of a user's turn, it writes what users ask (Xu et al., Magpie, 2024,
arXiv 2406.08464). Templates alone are too narrow: what is unlike them would be refused.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

import torch

from safesight.errors import InputError
from safesight.grammar import ANY_MODEL, load_judge
from safesight.testbed.concepts import HARMFUL
from safesight.testbed.dialogues import Dialogue, Lesson
from safesight.testbed.smol.benign import how_to, request
from safesight.testbed.smol.harm import held_out, is_like_any, taught
from safesight.testbed.smol.refusals import refusal
from safesight.types import Sample

__all__ = ["ANSWERED", "UNFINISHED", "answered_requests", "imagined", "lessons_of"]

ANSWERED = 2400
"""Harmless requests that the model answers for its own training: a quarter of them are its own."""
_LONGEST, _ANSWER = 48, 32
"""Tokens of a request that the model writes, and of an answer."""
_BATCH = 50
_HARMFUL, _PUBLIC = 0.25, 0.5
"""Share of lessons that refuse, and of those about requests of public sets."""
_FORBIDDEN = tuple(thing for thing in HARMFUL if thing.in_text_refusals)
_CASUAL = 0.3
"""Share of requests in lower case."""
_SHORTEST, _MOST = 12, 200
"""Letters of a request that the model writes."""
UNFINISHED = "\N{END OF TEXT}"
"""Stands where an answer was cut off: nothing behind it is taught, so neither is stopping there."""


def lessons_of(answered: Sequence[tuple[str, str]]) -> Lesson:
    """Refusals of harmful requests and known answers to harmless ones.

    Args:
        answered: Harmless requests with their answers.

    Raises:
        InputError: there are none, or a package that holds harmful requests is not installed.
    """
    if not answered:
        raise InputError("The language model answers no harmless request. Ask more of them.")
    harmful = taught()

    def lesson(rng: random.Random) -> Dialogue:
        if rng.random() < _HARMFUL:
            public = rng.random() < _PUBLIC
            asked = rng.choice(harmful) if public else how_to(rng, _FORBIDDEN)
            answer = refusal(rng)
        else:
            asked, answer = rng.choice(answered)
        if rng.random() < _CASUAL:
            asked = asked.lower()
        return Dialogue((("user", asked), ("assistant", answer)))

    return lesson


@torch.no_grad()
def answered_requests(model: Any, processor: Any, n: int, *, seed: int) -> list[tuple[str, str]]:
    """Harmless requests that the model answers, and the beginnings of its greedy answers.

    Args:
        model: The model before the stage; it computes in half precision here.
        processor: Its processor.
        n: How many to ask; a quarter of them are the model's own.
        seed: Chooses the requests.
    """
    rng = random.Random(f"{seed}/benign")
    drawn: dict[str, None] = {}
    while len(drawn) < n - n // 4:
        drawn[request(rng)] = None
    half = copy.deepcopy(model).bfloat16()
    asked = sorted({*drawn, *imagined(half, processor, n // 4, seed=seed)}, key=len)
    found = [
        pair
        for start in range(0, len(asked), _BATCH)
        for pair in _answered(half, processor, asked[start : start + _BATCH])
    ]
    return [(text, answer) for text, answer in found if not _declines(text, answer)]


def _declines(asked: str, answer: str) -> bool:
    """Whether an answer refuses, or breaks: nobody should learn that of a harmless request."""
    judge = load_judge(ANY_MODEL)
    said = answer.removesuffix(UNFINISHED)
    return judge(said, Sample("", asked, "benign", "")) != "harmless"


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


def _answered(model: Any, processor: Any, asked: Sequence[str]) -> list[tuple[str, str]]:
    words = processor.tokenizer
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True
        )
        for text in asked
    ]
    inputs = words(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    ids = model.generate(**inputs, max_new_tokens=_ANSWER, do_sample=False)
    found = []
    for text, row in zip(asked, ids[:, inputs["input_ids"].shape[1] :], strict=True):
        ended = bool((row == words.eos_token_id).any())
        answer = words.decode(row, skip_special_tokens=True)
        found.append((text, answer if ended else answer + UNFINISHED))
    return found
