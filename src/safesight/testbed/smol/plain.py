"""Plain text that the language model writes by itself, which a stage with an adapter holds on to.

What a model knows of language shows in text that is no chat, and lessons in chats alone wear it
off. So the untouched model writes such text, and the one in training is held to it:

    loss += w / B sum_texts sum_t KL(untouched, in training)

where t runs over the tokens of a text. Nothing has to be collected for that, and nothing that
others wrote is learned.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["TOKENS", "divergence", "written"]

TOKENS = 96
"""Tokens of a text."""
_BATCH = 50


@torch.no_grad()
def written(model: Any, processor: Any, n: int, *, seed: int) -> list[list[int]]:
    """Texts drawn from the model, each from the beginning of a document; token ids, all as long.

    Args:
        model: The untouched model.
        processor: Its processor.
        n: How many.
        seed: Draws them.
    """
    words = processor.tokenizer
    found: list[list[int]] = []
    begin = torch.full((_BATCH, 1), words.convert_tokens_to_ids("<|endoftext|>"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while len(found) < n:
            ids = model.generate(
                input_ids=begin,
                attention_mask=torch.ones_like(begin),
                max_new_tokens=TOKENS - 1,
                do_sample=True,
                top_k=0,
                suppress_tokens=words.all_special_ids,
            )
            found += ids.tolist()
    return found[:n]


def divergence(head: Any, old: Tensor, new: Tensor) -> Tensor:
    """The divergence of next tokens at each place, KL(old, new).

    Args:
        head: The last layer, which both share.
        old: States of the model to keep to; places x d.
        new: Those of the one in training.

    Returns:
        One number per place.
    """
    kept, now = (head(states).float().log_softmax(-1) for states in (old, new))
    return F.kl_div(now, kept, log_target=True, reduction="none").sum(-1)
