"""Projected gradient descent on pixels.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
arXiv 1706.06083. From a random point of the ball, each step moves every value by the sign of its
gradient and puts it back into the ball and into the range of values:

    x_{t+1} = clip(x_t - a_t sign(grad L(x_t)),  x_0 - r,  x_0 + r)          0 <= x <= 1

Rows are independent: the gradient of the sum of their losses is each row's own. The best point of
every row is kept and rounded to 8 bits, so that it can be saved as a picture. Where we differ: the
step shrinks, from a quarter of the radius to a sixty-fourth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from safesight.adversary.budget import Budget

__all__ = ["Search", "at_random", "pgd"]

Losses = Callable[[Tensor], Tensor]
"""Maps B x 3 x H x W pixels from 0 to 1 to the loss of every row, B; less is better."""


@dataclass(frozen=True)
class Search:
    """What a search found."""

    best: Tensor
    """B x 3 x H x W from 0 to 1, in steps of 1/255, at most a radius from the start."""
    losses: Tensor
    """(Steps + 1) x B: the loss before every step, and after the last."""


def pgd(start: Tensor, losses: Losses, budget: Budget, seed: int = 0) -> Search:
    """Search for pixels with a smaller loss near the given ones.

    Args:
        start: B x 3 x H x W from 0 to 1.
        losses: The loss of every row.
        budget: Radius and number of steps.
        seed: Of the random point at which it begins.

    Example:
        >>> grey = torch.full((2, 3, 4, 4), 0.5)
        >>> found = pgd(grey, lambda x: x.mean(dim=(1, 2, 3)), Budget(epsilon=8, steps=10))
        >>> ((found.best - grey).abs() <= 8.5 / 255).all().item(), found.losses.shape
        (True, torch.Size([11, 2]))
    """
    rng = torch.Generator().manual_seed(seed)
    low, high = _ball(start, budget)
    noise = torch.rand(start.shape[1:], generator=rng).to(start.device)  # the same for every row
    pixels = low + noise * (high - low)
    best, least = start.clone(), torch.full(start.shape[:1], math.inf, device=start.device)
    curve = []

    def keep(found: Tensor) -> None:
        nonlocal least
        better = found < least
        best[better], least = pixels[better], torch.where(better, found, least)  # never NaN
        curve.append(found)

    for number in range(budget.steps):
        moving = pixels.requires_grad_(True)
        found = losses(moving)
        (gradient,) = torch.autograd.grad(found.sum(), moving)
        pixels = moving.detach()
        keep(found.detach())
        pixels = torch.clamp(pixels - budget.step(number) * gradient.sign(), low, high)
    with torch.no_grad():
        keep(losses(pixels))
    return Search(_rounded(best, low, high), torch.stack(curve).cpu())


def at_random(start: Tensor, budget: Budget, rng: torch.Generator) -> Tensor:
    """The pixels with every value moved by the radius, up or down at random, in 8 bits.

    Example:
        >>> grey = torch.full((3, 4, 4), 128 / 255)
        >>> moved = at_random(grey, Budget(epsilon=8), torch.Generator())
        >>> round(255 * (moved - grey).abs().min().item())
        8
    """
    signs = torch.randint(0, 2, start.shape, generator=rng) * 2 - 1
    moved = start + budget.radius * signs.to(start.device)
    return _rounded(moved, *_ball(start, budget))


def _ball(start: Tensor, budget: Budget) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of every pixel."""
    return (start - budget.radius).clamp(min=0), (start + budget.radius).clamp(max=1)


def _rounded(pixels: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """To 8 bits, inside the ball."""
    slack = 1e-3  # bounds are whole numbers but for the rounding of floats
    lowest, highest = (low * 255 - slack).ceil(), (high * 255 + slack).floor()
    return (pixels * 255).round().clamp(lowest, highest) / 255
