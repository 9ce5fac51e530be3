"""What changed over the same samples: differences and reductions of rates, ratios of times.

Every statistic pairs the samples before averaging, so that what both measurements of a sample
share cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from safesight.stats.bootstrap import interval_of, percentiles, resamples
from safesight.stats.rates import Interval, wilson

__all__ = ["PairedDifference", "holm", "median_ratio", "paired_difference", "relative_reduction"]


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
    """McNemar's exact test, two-sided."""


def paired_difference(
    before: Sequence[bool], after: Sequence[bool], *, seed: int = 0
) -> PairedDifference:
    """The change of a rate over the same samples: bootstrap interval and McNemar's exact test.

    The interval is the percentile bootstrap over pairs. If every pair changed in the same way
    (usually: none changed), the bootstrap would claim certainty, so the interval is widened by
    the Wilson bound on the share of pairs that could behave differently.

    Args:
        before: One truth value per sample, first arm.
        after: The same samples in the same order, second arm.
        seed: Seed of the bootstrap.

    Example:
        >>> change = paired_difference([True] * 40, [False] * 40)
        >>> change.delta, change.low, round(change.high, 2), change.p_value < 1e-9
        (-1.0, -1.0, -0.91, True)
    """
    assert len(before) == len(after) > 0, (len(before), len(after))
    difference = np.asarray(after, dtype=np.int8) - np.asarray(before, dtype=np.int8)
    n = len(difference)
    gained, lost = int((difference == 1).sum()), int((difference == -1).sum())
    changed = gained + lost
    p_value = float(stats.binomtest(gained, changed, 0.5).pvalue) if changed else 1.0
    delta = float(difference.mean())
    if np.all(difference == difference[0]):
        slack = wilson(0, n).high
        low, high = max(-1.0, delta - slack), min(1.0, delta + slack)
    else:
        low, high = interval_of(difference.astype(np.float64), "mean", seed)
    return PairedDifference(delta, low, high, n, gained, lost, p_value)


def relative_reduction(before: Sequence[bool], after: Sequence[bool], *, seed: int = 0) -> Interval:
    """The relative reduction of a rate over the same samples: (before - after) / before.

    The interval is the percentile bootstrap over pairs; resamples without a hit
    before are left out.

    Args:
        before: One truth value per sample, at least one of them true.
        after: The same samples in the same order.
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
    drawn = pairs[:, resamples(n, seed)].sum(axis=2)
    low, high = percentiles(1 - drawn[1, drawn[0] > 0] / drawn[0, drawn[0] > 0])
    return Interval(value, float(low), float(high), n)


def median_ratio(
    numerator: Sequence[float], denominator: Sequence[float], *, seed: int = 0
) -> Interval:
    """The median of paired ratios with its percentile-bootstrap interval.

    With fewer than two pairs, or when all ratios are equal, the interval is the
    value itself and `n` shows how little it is based on.

    Args:
        numerator: One measurement per pair, all positive.
        denominator: The measurements they are compared with, all positive.
        seed: Seed of the bootstrap.

    Example:
        >>> median_ratio([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
        Interval(value=2.0, low=2.0, high=2.0, n=3)
    """
    assert len(numerator) == len(denominator) > 0, (len(numerator), len(denominator))
    ratios = np.asarray(numerator, dtype=np.float64) / np.asarray(denominator, dtype=np.float64)
    assert np.all(np.isfinite(ratios)), ratios
    value = float(np.median(ratios))
    if np.all(ratios == ratios[0]):
        return Interval(value, value, value, len(ratios))
    low, high = interval_of(ratios, "median", seed)
    return Interval(value, low, high, len(ratios))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, which bounds the chance of any false finding.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]]
