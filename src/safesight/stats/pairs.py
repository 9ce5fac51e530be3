"""What changed over the same samples: differences and reductions of rates, ratios of times.

Every statistic pairs the samples before averaging, so that what both measurements of a sample
share cancels out. Where samples come in groups, whole groups are resampled, see `clusters`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safesight.stats.bootstrap import RESAMPLES, Floats, median_interval, percentiles, resamples
from safesight.stats.clusters import Clusters, bounds, same, sign_flips
from safesight.stats.rates import Interval, wilson

__all__ = [
    "FEWEST",
    "PairedDifference",
    "Ratio",
    "holm",
    "median_ratio",
    "paired_difference",
    "relative_reduction",
]

FEWEST = 6
"""The fewest ratios whose median has a 95% interval: of five, even the smallest and the largest
enclose it in only 94% of cases."""


@dataclass(frozen=True)
class PairedDifference:
    """How a rate changed between two arms that answered the same samples."""

    delta: float
    low: float
    high: float
    n: int
    """Pairs."""
    gained: int
    """Pairs that were False in the first arm and True in the second."""
    lost: int
    """Pairs that were True in the first arm and False in the second."""
    p_value: float
    """Exact sign-flip test over groups, two-sided; over single samples that is McNemar's test."""
    groups: int | None = None
    """The number of groups that were resampled; None if samples were taken as independent."""


@dataclass(frozen=True)
class Ratio:
    """A median of paired ratios; no interval if there are fewer than FEWEST."""

    value: float
    low: float | None
    high: float | None
    n: int


def paired_difference(
    before: Sequence[bool],
    after: Sequence[bool],
    clusters: Clusters | None = None,
    *,
    seed: int = 0,
) -> PairedDifference:
    """The change of a rate over the same samples: bootstrap interval and exact sign-flip test.

    The interval is the percentile bootstrap over pairs or, if they come in groups, over groups
    and fit seeds. If every pair, or every group, changed in the same way (usually: none changed),
    the bootstrap would claim certainty, so the interval is widened by the Wilson bound on the
    share of pairs, or groups, that could behave differently.

    The test flips the signs of whole groups and counts, over all ways to do so, how often the sum
    is as far from zero as the observed one. McNemar's test, which it is for single pairs, would
    take the pairs of a group as independent. It asks about other groups, not about other fits:
    seeds are pooled.

    Args:
        before: One truth value per sample, first arm.
        after: The same samples in the same order, second arm.
        clusters: Which of them belong together; None if they are independent.
        seed: Seed of the bootstrap.

    Example:
        >>> change = paired_difference([True] * 40, [False] * 40)
        >>> change.delta, change.low, round(change.high, 2), change.p_value < 1e-9
        (-1.0, -1.0, -0.91, True)
        >>> things = Clusters(["axe"] * 20 + ["bomb"] * 20)
        >>> paired_difference([True] * 40, [False] * 40, things).p_value
        0.5
    """
    assert len(before) == len(after) > 0, (len(before), len(after))
    difference = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    n = len(difference)
    gained, lost = int((difference == 1).sum()), int((difference == -1).sum())
    delta = float(difference.mean())
    if clusters is None:
        units, means, flipped = n, difference, difference
    else:
        units, flipped = clusters.count, clusters.sums(difference).sum(axis=1)
        means = flipped / clusters.sums(np.ones(n)).sum(axis=1)
    low, high = delta, delta
    if clusters is not None and (clusters.seeds or not same(means)):
        sizes = clusters.drawn(np.ones(n), seed)
        drawn = clusters.drawn(difference, seed)
        low, high = bounds(drawn[sizes > 0] / sizes[sizes > 0], units)
    elif not same(means):
        low, high = _resampled(gained, lost, n, seed)
    if same(means):
        slack = wilson(0, units).high
        low, high = min(low, max(-1.0, delta - slack)), max(high, min(1.0, delta + slack))
    p_value = sign_flips([int(change) for change in flipped])
    groups = None if clusters is None else units
    return PairedDifference(delta, low, high, n, gained, lost, p_value, groups)


def _resampled(gained: int, lost: int, n: int, seed: int) -> tuple[float, float]:
    """The percentile bootstrap over pairs: how many of each kind are in a resample of all n."""
    chances = [gained / n, lost / n, 1 - (gained + lost) / n]
    drawn = np.random.default_rng(seed).multinomial(n, np.clip(chances, 0, 1), RESAMPLES)
    low, high = percentiles((drawn[:, 0] - drawn[:, 1]) / n)
    return float(low), float(high)


def relative_reduction(
    before: Sequence[bool],
    after: Sequence[bool],
    clusters: Clusters | None = None,
    *,
    seed: int = 0,
) -> Interval:
    """The relative reduction of a rate over the same samples: (before - after) / before.

    The interval is the percentile bootstrap over pairs or, if they come in groups, over groups
    and fit seeds; resamples without a hit before are left out. If the reduction is the same in
    every pair, or group, that has a hit before, the interval is widened by the Wilson bound on
    the share of these that could behave differently.

    Args:
        before: One truth value per sample, at least one of them true.
        after: The same samples in the same order.
        clusters: Which of them belong together; None if they are independent.
        seed: Seed of the bootstrap.

    Example:
        >>> relative_reduction([True, True, True, True], [True, False, False, False]).value
        0.75
    """
    assert len(before) == len(after), (len(before), len(after))
    assert any(before)
    pairs = np.stack([np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)])
    n = pairs.shape[1]
    value = float(1 - pairs[1].sum() / pairs[0].sum())
    sums: Floats = pairs
    if clusters is not None:
        sums = np.stack([clusters.sums(arm).sum(axis=1) for arm in pairs])
    hit = sums[0] > 0
    alike = same(sums[1, hit] / sums[0, hit]) and not sums[1, ~hit].any()
    low, high = value, value
    if not alike or (clusters is not None and clusters.seeds):
        low, high = _left(pairs, clusters, seed)
    if alike:
        slack = wilson(0, int(hit.sum())).high
        low, high = min(low, value - slack), max(high, min(1.0, value + slack))
    return Interval(value, low, high, n, None if clusters is None else clusters.count)


def _left(pairs: Floats, clusters: Clusters | None, seed: int) -> tuple[float, float]:
    """The interval of the reduction from resamples with a hit before."""
    if clusters is None:
        drawn = pairs[:, resamples(pairs.shape[1], seed)].sum(axis=2)
    else:
        drawn = np.stack([clusters.drawn(arm, seed) for arm in pairs])
    left = 1 - drawn[1, drawn[0] > 0] / drawn[0, drawn[0] > 0]
    if clusters is None:
        low, high = percentiles(left)
        return float(low), float(high)
    return bounds(left, clusters.count)


def median_ratio(
    numerator: Sequence[float], denominator: Sequence[float], *, seed: int = 0
) -> Ratio:
    """The median of paired ratios with its percentile-bootstrap interval.

    With fewer than FEWEST pairs there is no interval. When all ratios are equal, the interval is
    the value itself and `n` shows how little it is based on.

    Args:
        numerator: One measurement per pair, all positive.
        denominator: The measurements they are compared with, all positive.
        seed: Seed of the bootstrap.

    Example:
        >>> median_ratio([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
        Ratio(value=2.0, low=None, high=None, n=3)
    """
    assert len(numerator) == len(denominator) > 0, (len(numerator), len(denominator))
    ratios = np.asarray(numerator, dtype=np.float64) / np.asarray(denominator, dtype=np.float64)
    assert np.all(np.isfinite(ratios)), ratios
    value = float(np.median(ratios))
    if len(ratios) < FEWEST:
        return Ratio(value, None, None, len(ratios))
    if np.all(ratios == ratios[0]):
        return Ratio(value, value, value, len(ratios))
    low, high = median_interval(ratios, seed)
    return Ratio(value, low, high, len(ratios))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, which bounds the chance of any false finding.

    Scandinavian Journal of Statistics 6, 1979. The i-th smallest of m p-values is multiplied by
    m - i + 1, and is not below those before it. (`statsmodels` has it too, but takes seconds to
    import and collects garbage at each call.)

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    found = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    steps = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(p) for p in adjusted]
