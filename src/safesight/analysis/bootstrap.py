"""Bootstrap intervals for a whole stack of layers at once.

Resampling is the same for every layer, so that curves wiggle together and not against each
other. Percentile intervals, 95%. Pure numbers; nothing is known of models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from safesight.analysis.results import Band

__all__ = ["RESAMPLES", "bands", "mean_bands", "resampled"]

RESAMPLES = 2000

Floats = NDArray[np.float64]


def resampled(n: int, seed: int) -> Floats:
    """How often each of n samples is drawn in each resample: RESAMPLES x n.

    Example:
        >>> counts = resampled(5, seed=0)
        >>> counts.shape, set(counts.sum(axis=1))
        ((2000, 5), {np.float64(5.0)})
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)


def bands(values: Floats, draws: Floats) -> list[Band]:
    """Values (layers) with the percentiles of their resamples (RESAMPLES x layers)."""
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return [
        Band(value=float(v), low=float(min(lo, v)), high=float(max(hi, v)))
        for v, lo, hi in zip(values, low, high, strict=True)
    ]


def mean_bands(rows: Floats, seed: int) -> list[Band]:
    """Column means of n x layers with their intervals.

    Example:
        >>> band = mean_bands(np.array([[0.0], [1.0]] * 50), seed=0)[0]
        >>> band.value, 0.35 < band.low < 0.45, 0.55 < band.high < 0.65
        (0.5, True, True)
    """
    table = np.asarray(rows, dtype=np.float64)
    return bands(table.mean(axis=0), resampled(len(table), seed) @ table / len(table))
