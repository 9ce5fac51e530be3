"""Directions in activation space: how to find one, and how to measure along it.

Pure functions, tensors in, tensors out. A *direction* has unit length, a
*vector* keeps its length. Everything is computed in float32: attention-sink
tokens carry values whose squares overflow float16.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safesight.errors import InputError

__all__ = ["cosine", "difference_of_means", "project", "unit"]

EPS = 1e-6


def difference_of_means(positive: Tensor, negative: Tensor) -> Tensor:
    """The vector from the mean of `negative` (m x d) to the mean of `positive` (n x d).

    Raises:
        InputError: one of the two sets is empty.

    Example:
        >>> difference_of_means(torch.tensor([[2.0, 0.0], [4.0, 0.0]]), torch.zeros(3, 2))
        tensor([3., 0.])
    """
    if len(positive) == 0 or len(negative) == 0:
        raise InputError(
            f"A difference of means needs samples of both kinds, but there are {len(positive)} "
            f"and {len(negative)}. Add samples of the missing kind."
        )
    return positive.float().mean(dim=0) - negative.float().mean(dim=0)


def unit(vector: Tensor) -> Tensor:
    """The direction of `vector` (... x d): the same, scaled to unit length.

    Raises:
        InputError: the vector has no direction (zero or not finite).

    Example:
        >>> unit(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """
    states = vector.float()
    length: Tensor = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    if not bool(((length > 0) & length.isfinite()).all()):
        raise InputError(
            "A vector of length zero (or not finite) has no direction. "
            "The two sets it was made from may be the same; use others."
        )
    return states / length


def project(states: Tensor, onto: Tensor, eps: float = EPS) -> Tensor:
    """Each row of `states` (... x d) on the line of the same row of `onto`, in float32.

    `<h, g> / (||g||^2 + eps) * g`

    Example:
        >>> project(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 0.0]]), eps=0.0)
        tensor([[1., 0.]])
    """
    states, onto = states.float(), onto.float()
    scale = (states * onto).sum(dim=-1, keepdim=True)
    return scale / (onto.square().sum(dim=-1, keepdim=True) + eps) * onto


def cosine(states: Tensor, others: Tensor) -> Tensor:
    """Cosine of each row of `states` (... x d) with `others` (d, or the same shape), in float32.

    Example:
        >>> cosine(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 0.0]))
        tensor([1., 0.])
    """
    similarity: Tensor = torch.cosine_similarity(states.float(), others.float(), dim=-1)
    return similarity
