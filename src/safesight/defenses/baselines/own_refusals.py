"""The words a model begins its own refusals with, found without reading any answer.

A model that refuses harmful requests in text begins those answers with other tokens than
its answers to benign ones. Which tokens those are, and how likely one of them is to come
next, is all that is here; no list of refusals and no judge is involved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from safesight.types import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["in_text", "openers", "openers_mass"]


def openers(harmful: Tensor, benign: Tensor, most: int) -> list[int]:
    """The tokens whose mean probability is higher after harmful requests, furthest apart first.

    Args:
        harmful: n x vocabulary, first-token logits after harmful requests.
        benign: m x vocabulary, after benign ones.
        most: How many tokens at most.

    Example:
        >>> import torch
        >>> openers(torch.tensor([[0.0, 5.0, 0.0]]), torch.tensor([[5.0, 0.0, 0.0]]), most=1)
        [1]
    """
    gap = harmful.float().softmax(-1).mean(0) - benign.float().softmax(-1).mean(0)
    values, tokens = gap.topk(min(most, len(gap)))
    return [int(token) for token, value in zip(tokens, values, strict=True) if value > 0]


def openers_mass(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """How likely one of these tokens is to come next: n x vocabulary logits to n.

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
