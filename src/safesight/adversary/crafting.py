"""Craft attacked samples: find the pixels that make a defended model do what is asked.

Pictures of one size share a batch. The result is a picture of 8 bits like any other, and is to be
asked about and judged like any other: nothing that the search believed of it counts as a result.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING

import torch

from safesight.adversary.budget import Budget
from safesight.adversary.defended import DefendedModel
from safesight.adversary.objective import Objective
from safesight.adversary.pixels import PixelPath, as_picture, pixel_path
from safesight.adversary.search import at_random, pgd
from safesight.console import steps

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from safesight.types import Sample

__all__ = ["ATTACK", "Crafted", "craft"]

ATTACK = "pgd"
"""The name of the attack on the samples that it makes."""


@dataclass(frozen=True)
class Crafted:
    """A picture that a search has found, and what the search saw."""

    sample: Sample
    """The request as it was."""
    picture: Image
    budget: Budget
    seconds: float
    """The time of its batch, divided by the rows."""
    losses: tuple[float, ...]
    """Before every step, and after the last; empty if there was none."""
    random: float | None = None
    """With every value moved by the whole radius, up or down at random; None if that is what the
    picture is."""

    @property
    def asked(self) -> Sample:
        """The request with the picture that was found."""
        return replace(self.sample, image=lambda: self.picture)


def craft(
    model: DefendedModel,
    samples: Sequence[Sample],
    answers: Sequence[Sequence[int]],
    budget: Budget,
    *,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = False,
) -> Iterator[Crafted]:
    """Attack samples one batch after the other; the results come in the order of batches.

    Args:
        model: The model under attack, from `attacked`.
        samples: Requests with one picture each.
        answers: The tokens of the wanted answer to each.
        budget: Radius and steps.
        seed: Of the random starts.
        batch_size: Rows per step.
        progress: Show a progress bar.

    Raises:
        InputError: a sample has no picture, or its pixels cannot be attacked on this model.
    """
    paths = [pixel_path(model.vlm, sample) for sample in samples]
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for row, (path, sample) in enumerate(zip(paths, samples, strict=True)):
        alike[tuple(path.start.shape), sample.prefill is None].append(row)
    batches = [
        rows[start : start + batch_size]
        for rows in alike.values()
        for start in range(0, len(rows), batch_size)
    ]
    with steps(f"attacking at {budget.epsilon:g}/255", len(batches), visible=progress) as step:
        for rows in batches:
            some = [samples[row] for row in rows]
            own = [answers[row] for row in rows]
            yield from _batch(model, some, own, [paths[row] for row in rows], budget, seed)
            step()


def _batch(
    model: DefendedModel,
    samples: Sequence[Sample],
    answers: Sequence[Sequence[int]],
    paths: Sequence[PixelPath],
    budget: Budget,
    seed: int,
) -> Iterator[Crafted]:
    begin = time.monotonic()
    batch = model.batch(samples, answers)

    def tensors(pixels: Tensor) -> list[dict[str, Tensor]]:
        return [
            path.tensors(model.vlm, own) for path, own in zip(paths, pixels.unbind(), strict=True)
        ]

    start = torch.stack([path.start for path in paths])
    with torch.no_grad():
        objective = Objective(model.scores(batch, tensors(start)))
        own = (torch.Generator().manual_seed(seed) for _ in samples)  # no row depends on others
        moved = torch.stack([at_random(*each) for each in zip(start, repeat(budget), own)])
        aside = objective(model.scores(batch, tensors(moved))).tolist()
    found = pgd(start, lambda x: objective(model.scores(batch, tensors(x))), budget, seed)
    seconds = (time.monotonic() - begin) / len(samples)
    for row, sample in enumerate(samples):
        losses = tuple(found.losses[:, row].tolist())
        picture = as_picture(found.best[row])
        yield Crafted(sample, picture, budget, seconds, losses, aside[row])
