"""Silence one attention head, and measure how far that turns the states of a set of prompts.

The heads of an attention layer are concatenated in the input of its output projection: with H
heads of width w, head h is the slice `[h w, (h + 1) w)`. Setting that slice to zero removes the
head and nothing else. The caller knows the projection and the number of heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from safesight.activations.hooks import hooked
from safesight.errors import InputError

__all__ = ["leading_angle", "silence_head"]


@contextmanager
def silence_head(projection: nn.Module, head: int, heads: int) -> Iterator[None]:
    """Inside, the projection sees zeros in place of head `head` of `heads`.

    Args:
        projection: The linear layer that takes all heads' outputs, ... x (heads * width).
        head: Index of the head, counted from 0.
        heads: The number of heads.

    Raises:
        InputError: there is no such head.

    Example:
        >>> projection = torch.nn.Linear(4, 4, bias=False)
        >>> _ = torch.nn.init.eye_(projection.weight)
        >>> with silence_head(projection, head=1, heads=2):
        ...     projection(torch.ones(4)).tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    if not 0 <= head < heads:
        raise InputError(
            f"Head {head} does not exist: there are {heads}. Choose one from 0 to {heads - 1}."
        )

    def zeroed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        mixed: Tensor = args[0]
        assert mixed.shape[-1] % heads == 0, (tuple(mixed.shape), heads)
        width = mixed.shape[-1] // heads
        changed = mixed.clone()
        changed[..., head * width : (head + 1) * width] = 0
        return (changed, *args[1:]), kwargs

    with hooked() as hooks:
        hooks.before(projection, zeroed)
        yield


def leading_angle(states: Tensor, others: Tensor, *, centred: bool = False) -> float:
    """The angle between the leading left singular vectors of two n x d matrices, in radians.

    `phi = arccos |<u, u'>|`, from 0 to pi/2, where u and u' are unit vectors in n dimensions: the
    loadings of the n prompts on the strongest direction of each matrix. In float64.

    Args:
        states: One row per prompt.
        others: The same prompts in the same order, under a change.
        centred: Subtract the mean row first. Otherwise the strongest direction is mostly the
            mean itself.

    Raises:
        InputError: a matrix is zero or not finite, so it has no leading direction.

    Example:
        >>> one = torch.tensor([[1.0, 0.0], [0.0, 0.1]])
        >>> round(leading_angle(one, one.flip(0)), 4)
        1.5708
    """
    assert len(states) == len(others), (states.shape, others.shape)
    u, v = _leading(states, centred), _leading(others, centred)
    overlap = u @ v
    # arccos of a number near 1 loses half the digits; the part of v across u does not.
    across = torch.linalg.vector_norm(v - overlap * u)
    return float(torch.atan2(across, overlap.abs()))


def _leading(states: Tensor, centred: bool) -> Tensor:
    """The leading left singular vector, n."""
    matrix = states.double()
    if centred:
        matrix = matrix - matrix.mean(dim=0)
    if not bool(matrix.isfinite().all()) or not bool(matrix.any()):
        raise InputError(
            "The states have no leading direction: they are all equal, zero or not finite. "
            "Use more prompts, and load the model in float32 or bfloat16."
        )
    left: Tensor = torch.linalg.svd(matrix, full_matrices=False).U
    return left[:, 0]
