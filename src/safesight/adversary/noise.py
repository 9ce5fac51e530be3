"""The control of an attack by gradient: the same pixels, moved as far in random directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from safesight.adversary.budget import Budget
from safesight.adversary.crafted import request_key
from safesight.adversary.crafting import Crafted
from safesight.adversary.pixels import as_picture, pixel_path
from safesight.adversary.search import at_random

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["noised"]


def noised(vlm: VLM, samples: Sequence[Sample], budget: Budget, seed: int = 0) -> Iterator[Crafted]:
    """Every value moves by the whole radius, up or down at random; no step is made.

    Raises:
        InputError: as for `pixel_path`.
    """
    for sample in samples:
        # Of the request, not of those before it, so that a run that resumes draws the same.
        own = int(request_key(sample), 16) + seed
        rng = torch.Generator().manual_seed(own % 2**63)
        start = pixel_path(vlm, sample).start.cpu()
        yield Crafted(sample, as_picture(at_random(start, budget, rng)), budget, 0.0, ())
