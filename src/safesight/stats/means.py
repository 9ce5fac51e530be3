"""The mean of one number per sample with its interval: a rate, or an amount such as words."""

from __future__ import annotations

import numpy as np

from safesight.stats.bootstrap import Floats, percentiles, resamples
from safesight.stats.clusters import Clusters, agreed, bounds, same
from safesight.stats.rates import Interval, wilson

__all__ = ["mean_interval"]


def mean_interval(
    values: Floats, clusters: Clusters | None = None, *, seed: int = 0, is_rate: bool = True
) -> Interval:
    """The mean of one number per sample.

    Of groups, the interval is the bootstrap over groups, and over fit seeds where there are
    several. If every value is 0 or 1 it is never narrower than Wilson's for as many independent
    samples. Where all groups have the same rate, it is Wilson's on the number of groups, see
    `clusters`. Without groups, it is Wilson's for values of 0 and 1, because a bootstrap would
    claim certainty where all agree, and else the bootstrap over samples.

    Args:
        values: One number per sample.
        clusters: Which samples belong together; None if they are independent.
        seed: Seed of the bootstrap.
        is_rate: Whether the values are shares, at least 0 and at most 1.

    Example:
        >>> mean_interval(np.array([2.0, 4.0] * 50), is_rate=False).value
        3.0
        >>> things = Clusters(["axe"] * 50 + ["bomb"] * 50)
        >>> round(mean_interval(np.zeros(100), things).high, 2)  # two things, not a hundred
        0.66
    """
    n = len(values)
    binary = is_rate and set(values.tolist()) <= {0.0, 1.0}
    alone = wilson(int(values.sum()), n) if binary else None
    if n and clusters is not None:
        return _grouped(values, clusters, alone, seed, is_rate)
    if alone is not None:
        return alone
    low, high = percentiles(values[resamples(n, seed)].mean(axis=1))
    return Interval(float(values.mean()), float(low), float(high), n)


def _grouped(
    values: Floats, clusters: Clusters, alone: Interval | None, seed: int, is_rate: bool
) -> Interval:
    """The mean over groups; `alone` is the interval of as many independent values."""
    n, groups = len(values), clusters.count
    low = high = mean = float(values.mean())
    if not same(clusters.sums(values).sum(axis=1) / clusters.sums(np.ones(n)).sum(axis=1)):
        sizes = clusters.drawn(np.ones(n), seed)
        low, high = bounds(clusters.drawn(values, seed)[sizes > 0] / sizes[sizes > 0], groups)
    elif is_rate:
        low, high = agreed(mean, groups)
    if alone is not None:
        low, high = min(low, alone.low), max(high, alone.high)
    return Interval(mean, low, high, n, groups)
