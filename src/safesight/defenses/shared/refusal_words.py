"""The words a model refuses with: a published list, and its own, found without reading answers.

A model that refuses harmful requests in text begins those answers with other tokens than its
answers to benign ones. Finding those tokens, and the probability that one comes next, needs
neither a list of refusals nor a judge. The published list is HiddenDetect's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from safesight.types import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safesight.models import VLM

__all__ = ["PUBLISHED", "in_text", "openers", "openers_mass", "published_tokens"]

PUBLISHED = (
    "Sorry sorry unfortunately unfortunate sadly explicit deadly crim criminal illegal dangerous "
    "harmful warning alarm caution shame conspiracy Subject contrary shouldn"
).split()
"""The list of HiddenDetect's authors (arXiv 2502.14744)."""
_LEAST = 0.05
"""The smallest gap of an opener, as a share of the largest gap."""


def openers(harmful: Tensor, benign: Tensor, most: int) -> list[int]:
    """The tokens whose mean probability is higher after harmful requests, largest gap first.

    Args:
        harmful: First-token logits after harmful requests, n x vocabulary.
        benign: First-token logits after benign requests, m x vocabulary.
        most: Maximum number of tokens.

    Example:
        >>> import torch
        >>> openers(torch.tensor([[0.0, 5.0, 0.0]]), torch.tensor([[5.0, 0.0, 0.0]]), most=1)
        [1]
    """
    gap = harmful.float().softmax(-1).mean(0) - benign.float().softmax(-1).mean(0)
    values, tokens = gap.topk(min(most, len(gap)))
    # Nearly every token has some gap; one far below the largest is noise, not a refusal.
    least = max(_LEAST * float(values[0]), 1e-9)
    return [int(token) for token, value in zip(tokens, values, strict=True) if value >= least]


def openers_mass(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """The probability that one of these tokens comes next; maps n x vocabulary logits to n.

    Example:
        >>> import torch
        >>> openers_mass(torch.zeros(1, 4), [0, 3])
        tensor([0.5000])
    """
    mass: Tensor = logits.float().softmax(-1)[:, list(tokens)].sum(-1)
    return mass


def in_text(samples: Sequence[Sample]) -> list[Sample]:
    """The samples without a picture."""
    return [sample for sample in samples if sample.image is None]


def published_tokens(vlm: VLM) -> list[int]:
    """The published words that are single tokens of this model, with or without a space."""
    encode = vlm.tokenizer
    found = [
        encode(spelled, add_special_tokens=False)["input_ids"]
        for word in PUBLISHED
        for spelled in (word, f" {word}")
    ]
    return list(dict.fromkeys(int(ids[0]) for ids in found if len(ids) == 1))
