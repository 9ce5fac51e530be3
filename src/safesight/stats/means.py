"""The mean of one number per sample with its interval: a rate, a change of one, or an amount."""

from __future__ import annotations

from typing import Literal

import numpy as np

from safesight.stats.bootstrap import Floats, percentiles, resamples
from safesight.stats.clusters import Clusters, agreed, bounds, same
from safesight.stats.rates import Interval, wilson

__all__ = ["Kind", "mean_interval"]

Kind = Literal["rate", "change", "amount"]
"""What the values are: shares from 0 to 1, differences of shares, or anything else, as words."""


def mean_interval(
    values: Floats, clusters: Clusters | None = None, *, seed: int = 0, kind: Kind = "rate"
) -> Interval:
    """The mean of one number per sample.

    Of groups, the interval is the bootstrap over groups, and over fit seeds where there are
    several. If every value is 0 or 1 it is never narrower than Wilson's for as many independent
    samples. Without groups, it is Wilson's for values of 0 and 1, and else the bootstrap over
    samples. Where all groups, or samples, have the same rate, the bootstrap would claim
    certainty; the interval is then at least Wilson's on their number, and a change is widened by
    the Wilson bound on the share of them that could behave differently. An amount has no such
    bound.

    Args:
        values: One number per sample.
        clusters: Which samples belong together; None if they are independent.
        seed: Seed of the bootstrap.
        kind: What the values are.

    Example:
        >>> mean_interval(np.array([2.0, 4.0] * 50), kind="amount").value
        3.0
        >>> things = Clusters(["axe"] * 50 + ["bomb"] * 50)
        >>> round(mean_interval(np.zeros(100), things).high, 2)  # two things, not a hundred
        0.66
    """
    n = len(values)
    binary = kind == "rate" and set(values.tolist()) <= {0.0, 1.0}
    alone = wilson(int(values.sum()), n) if binary else None
    if alone is not None and (n == 0 or clusters is None):
        return alone
    mean = float(values.mean())
    units, means = n, values
    if clusters is not None:
        units = clusters.count
        means = clusters.sums(values).sum(axis=1) / clusters.sums(np.ones(n)).sum(axis=1)
    found = [_agreed(mean, units, kind)] if same(means) else []
    if not found or (clusters is not None and clusters.seeds):  # groups agree, seeds may not
        found.append(_drawn(values, clusters, seed))
    low, high = min(low for low, _ in found), max(high for _, high in found)
    if alone is not None:
        low, high = min(low, alone.low), max(high, alone.high)
    return Interval(mean, low, high, n, None if clusters is None else units)


def _agreed(mean: float, units: int, kind: Kind) -> tuple[float, float]:
    """The interval where all units have the same mean."""
    if kind == "rate":
        return agreed(mean, units)
    slack = wilson(0, units).high if kind == "change" else 0.0
    return mean - slack, mean + slack


def _drawn(values: Floats, clusters: Clusters | None, seed: int) -> tuple[float, float]:
    """The interval from resamples."""
    n = len(values)
    if clusters is None:
        low, high = percentiles(values[resamples(n, seed)].mean(axis=1))
        return float(low), float(high)
    sizes = clusters.drawn(np.ones(n), seed)
    return bounds(clusters.drawn(values, seed)[sizes > 0] / sizes[sizes > 0], clusters.count)
