"""What the language model answers before a stage; lessons of the stage are made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from safesight.grammar import ANY_MODEL, load_judge
from safesight.testbed.dialogues import Lesson
from safesight.types import Sample

__all__ = ["KEPT", "LONGEST", "OwnAnswers", "answered", "declines"]

KEPT = "\N{END OF TEXT}"
"""Ends an answer that is kept rather than taught; it is no part of it."""
LONGEST = 16
"""Tokens of an answer of which only the beginning is used."""
_BATCH = 50


@dataclass(frozen=True)
class OwnAnswers:
    """Lessons that need the model's own answers."""

    ask: Callable[..., list[Any]]
    """From model, processor, number and seed: what lessons are made of, as JSON."""
    lessons: Callable[[list[Any]], Lesson]
    n: int
    """Number of requests."""


@torch.no_grad()
def answered(
    model: Any, processor: Any, asked: Sequence[str], *, longest: int = LONGEST
) -> list[str]:
    """The beginnings of its greedy answers to requests in text.

    Args:
        model: The model before the stage.
        processor: Its processor.
        asked: The requests.
        longest: Tokens of an answer.
    """
    words, found = processor.tokenizer, dict.fromkeys(asked, "")
    order = sorted(found, key=len)
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        texts = [
            processor.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True
            )
            for text in part
        ]
        inputs = words(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        ids = model.generate(**inputs, max_new_tokens=longest, do_sample=False)
        rows = words.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        found |= zip(part, rows, strict=True)
    return [found[text] for text in asked]


def declines(asked: str, answer: str) -> bool:
    """Whether an answer to a harmless request refuses, or breaks: that is not worth teaching."""
    judge = load_judge(ANY_MODEL)
    return judge(answer, Sample("", asked, "benign", "")) != "harmless"
