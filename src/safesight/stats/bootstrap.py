"""Percentile bootstrap intervals over independent samples.

`resamples` draws indices, for statistics of a few columns. `resampled` counts how often each
sample is drawn, so one matrix product gives the means of many columns. All layers of a model
share the resamples, so their curves move together.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from safesight.stats.clusters import RESAMPLES
from safesight.stats.rates import LEVEL, Interval

__all__ = [
    "RESAMPLES",
    "bands",
    "mean_bands",
    "median_interval",
    "percentiles",
    "resampled",
    "resamples",
]

_RESAMPLES_OF_BANDS = 2000
"""Fewer, because every resample covers all layers."""

Floats = NDArray[np.float64]


@lru_cache(maxsize=2)
def resamples(n: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices of n samples drawn with replacement: RESAMPLES x n, read-only.

    Example:
        >>> resamples(5).shape
        (9999, 5)
    """
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    drawn.flags.writeable = False
    return drawn


def percentiles(draws: Floats) -> tuple[Floats, Floats]:
    """The bounds of the interval, from one statistic per resample along the first axis."""
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return low, high


def median_interval(values: Floats, seed: int) -> tuple[float, float]:
    """The interval of the median of some values."""
    ci = stats.bootstrap(
        (values,),
        np.median,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(ci.low), float(ci.high)


def resampled(n: int, seed: int) -> Floats:
    """How often each of n samples is drawn in each resample: 2000 x n.

    Example:
        >>> counts = resampled(5, seed=0)
        >>> counts.shape, set(counts.sum(axis=1))
        ((2000, 5), {np.float64(5.0)})
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES_OF_BANDS).astype(np.float64)


def bands(values: Floats, draws: Floats, n: int) -> list[Interval]:
    """Values, one per layer, with the percentiles of their resamples.

    Args:
        values: One per layer.
        draws: Resamples x layers.
        n: Number of samples per value.
    """
    return [
        Interval(float(v), float(min(lo, v)), float(max(hi, v)), n)
        for v, lo, hi in zip(values, *percentiles(draws), strict=True)
    ]


def mean_bands(rows: Floats, seed: int) -> list[Interval]:
    """Column means of n x layers with their intervals.

    Example:
        >>> band = mean_bands(np.array([[0.0], [1.0]] * 50), seed=0)[0]
        >>> band.value, 0.35 < band.low < 0.45, 0.55 < band.high < 0.65
        (0.5, True, True)
    """
    table = np.asarray(rows, dtype=np.float64)
    n = len(table)
    return bands(table.mean(axis=0), resampled(n, seed) @ table / n, n)
