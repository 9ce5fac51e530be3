"""Attacks that know the model and its defense: gradients from an answer back to the pixels.

Read `defended` first (one pass through a defended model, with gradients), then `search` (the
optimizer), `crafting` (from samples to attacked samples) and `crafted` (the pictures on disk).
"""

from __future__ import annotations

from safesight.adversary.budget import Budget
from safesight.adversary.crafting import craft
from safesight.adversary.defended import DefendedModel, Scores, attacked, refuse_without_gradient
from safesight.adversary.pixels import PixelPath, pixel_path
from safesight.adversary.search import Search, pgd

__all__ = [
    "Budget",
    "DefendedModel",
    "PixelPath",
    "Scores",
    "Search",
    "attacked",
    "craft",
    "pgd",
    "pixel_path",
    "refuse_without_gradient",
]
