"""How much of the text-derived unsafe direction remains when the request comes as a picture.

At each layer the direction points from benign to harmful text requests (difference of means,
Arditi et al., 2024, arXiv 2406.11717). States are projected onto it, in units of the distance
between the two means:

    v = mean(harmful text) - mean(benign text),  r = v / ||v||,  gap = ||v||
    projection(h) = (<h, r> - <mean(benign text), r>) / gap

so harmful text averages 1 and benign text 0. For pictures the signal shrinks: the "risk signal
dilution" that motivates RAI (Wang et al., 2026, arXiv 2602.03402). The paper does not say how
its curve is drawn; this construction is ours. Benign requests belong in the same figure: a
picture alone moves states along the direction, and a defense that raises both labels equally
refuses more without seeing better.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from safesight.activations import difference_of_means, unit
from safesight.analysis.results import Band, Form, Projection
from safesight.stats.bootstrap import mean_bands
from safesight.types import Label

__all__ = ["UnsafeDirection", "projection"]


@dataclass(frozen=True)
class UnsafeDirection:
    """One direction per layer, found on text.

    Example:
        >>> harmful, benign = torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[1.0, 1.0]]])
        >>> found = UnsafeDirection.of(harmful, benign)
        >>> found.project(torch.cat([harmful, benign])).flatten().tolist()
        [1.0, 0.0]
    """

    direction: Tensor
    """layers x d, unit length."""
    origin: Tensor
    """layers: position of the mean benign text along it."""
    gap: Tensor
    """layers: distance from there to the mean harmful text."""
    scale: Tensor
    """layers: mean norm of the states it was found on."""

    @classmethod
    def of(cls, harmful: Tensor, benign: Tensor) -> UnsafeDirection:
        """Compute it from the states of text requests, n x layers x d and m x layers x d.

        Raises:
            InputError: a label has no samples, or the means of a layer are equal.
        """
        vector = difference_of_means(harmful, benign)
        direction = unit(vector)
        origin = (benign.float().mean(dim=0) * direction).sum(dim=-1)
        lengths = torch.linalg.vector_norm(torch.cat([harmful, benign]).float(), dim=-1)
        return cls(direction, origin, torch.linalg.vector_norm(vector, dim=-1), lengths.mean(dim=0))

    def project(self, states: Tensor) -> Tensor:
        """Projections of n x layers x d: n x layers."""
        along = (states.float() * self.direction).sum(dim=-1)
        return (along - self.origin) / self.gap


def projection(
    unsafe: UnsafeDirection,
    states: Tensor,
    *,
    form: Form,
    label: Label,
    defense: str = "none",
    seed: int = 0,
) -> Projection:
    """The mean projection of n x layers x d states, with a bootstrap interval over samples."""
    found = mean_bands(unsafe.project(states).double().numpy(), seed)
    means = [Band.of(each) for each in found]
    return Projection(form=form, label=label, defense=defense, means=means, n=len(states))
