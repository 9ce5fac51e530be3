"""Intervals of rates that are resampled over things and over seeds, not over single prompts.

Not a benchmark. Prompts about one thing succeed or fail together, so an interval over prompts is
far too narrow for a statement about other things. Here whole things are drawn with replacement,
and so are the seeds of the fit; every prompt and seed of what is drawn counts. Where all outcomes
agree, resampling would claim certainty, so the interval is Wilson's for that many things.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from safesight.stats.rates import wilson

__all__ = ["clustered_delta", "clustered_rate"]

RESAMPLES = 2000

Floats = NDArray[np.float64]


def clustered_rate(outcomes: ArrayLike, things: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """The mean of outcomes, seeds x prompts (NaN where nothing was measured), with its interval.

    Args:
        outcomes: One row per seed of the fit, one column per prompt.
        things: What each prompt is about.
        seed: Seed of the resampling.
    """
    sums, counts = _by_thing(outcomes, things)
    mean = sums.sum() / counts.sum()
    if np.ptp(sums / np.maximum(counts, 1)) == 0 and mean in (0.0, 1.0):
        found = wilson(round(mean * sums.shape[1]), sums.shape[1])
        low, high = found.low, found.high
    else:
        low, high = np.percentile(_drawn(sums, counts, seed), [2.5, 97.5])
    numbers = {"value": mean, "low": min(low, mean), "high": max(high, mean)}
    return {
        **{name: round(float(value), 4) for name, value in numbers.items()},
        "n": int(counts.sum(axis=1).max()),
        "things": sums.shape[1],
    }


def clustered_delta(
    after: ArrayLike, before: ArrayLike, things: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """The paired change of two sets of outcomes, with its interval; see `clustered_rate`."""
    change = np.asarray(after, float) - np.asarray(before, float)
    found = clustered_rate(change, things, seed=seed)
    if not np.nan_to_num(change).any():
        found["low"] = -found["high"]
    return {"delta": found.pop("value"), **found}


def _by_thing(outcomes: ArrayLike, things: Sequence[str]) -> tuple[Floats, Floats]:
    """Sums and counts, seeds x things."""
    table = np.atleast_2d(np.asarray(outcomes, dtype=np.float64))
    measured = ~np.isnan(table)
    _, index = np.unique(np.asarray(things), return_inverse=True)
    member = np.eye(index.max() + 1)[index]
    sums, counts = np.where(measured, table, 0.0) @ member, measured.astype(np.float64) @ member
    kept = counts.sum(axis=0) > 0
    return sums[:, kept], counts[:, kept]


def _drawn(sums: Floats, counts: Floats, seed: int) -> Floats:
    """The mean in every resample."""
    rng = np.random.default_rng(seed)
    seeds, things = sums.shape
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES)
    of_things = rng.multinomial(things, np.full(things, 1 / things), size=RESAMPLES)
    total = np.einsum("rs,st,rt->r", of_seeds, sums, of_things)
    found: Floats = total / np.maximum(np.einsum("rs,st,rt->r", of_seeds, counts, of_things), 1)
    return found
