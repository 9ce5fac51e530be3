"""Intervals and paired tests for answers that are right or wrong.

Pure numbers in, pure numbers out: this file knows nothing of models, logs or
verdicts. The statistics come from scipy; what is decided here is only which
one is used, and what happens at the edges where it has no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = [
    "LEVEL",
    "Interval",
    "PairedDifference",
    "median_ratio",
    "paired_difference",
    "relative_reduction",
    "wilson",
]

LEVEL = 0.95
"""Confidence of every interval in safesight."""

_RESAMPLES = 9999


@dataclass(frozen=True)
class Interval:
    """A value, its 95% interval, and the number of observations behind it."""

    value: float
    low: float
    high: float
    n: int


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


def wilson(successes: int, n: int, *, empty: float = 0.0) -> Interval:
    """A proportion with its Wilson score interval.

    Args:
        successes: How many of the observations were successes.
        n: How many observations there were.
        empty: The value reported when there was no observation at all; the
            interval is then [0, 1].

    Example:
        >>> rate = wilson(0, 100)
        >>> rate.value, round(rate.high, 3)
        (0.0, 0.037)
    """
    assert 0 <= successes <= n, (successes, n)
    if n == 0:
        return Interval(empty, 0.0, 1.0, 0)
    ci = stats.binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    # The score interval reaches 0 and 1 only up to rounding errors of 1e-17.
    low = 0.0 if successes == 0 else float(ci.low)
    high = 1.0 if successes == n else float(ci.high)
    return Interval(successes / n, low, high, n)


def paired_difference(
    before: Sequence[bool], after: Sequence[bool], *, seed: int = 0
) -> PairedDifference:
    """The change of a rate over the same samples: bootstrap interval and McNemar's exact test.

    The interval is the percentile bootstrap over pairs. Where every pair
    changed in the same way (most often: none changed) the bootstrap would
    claim certainty, so the interval is widened by the Wilson bound on the share
    of pairs that may do otherwise.

    Args:
        before: One truth value a sample, first arm.
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
        ci = _bootstrap(difference.astype(np.float64), "mean", seed)
        low, high = ci
    return PairedDifference(delta, low, high, n, gained, lost, p_value)


def relative_reduction(before: Sequence[bool], after: Sequence[bool], *, seed: int = 0) -> Interval:
    """By what share of itself a rate fell, over the same samples: (before - after) / before.

    The interval is the percentile bootstrap over pairs; a resample without a hit before has
    no share and is left out.

    Args:
        before: One truth value a sample, at least one of them true.
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
    dice = np.random.default_rng(seed)
    drawn = pairs[:, dice.integers(0, n, (_RESAMPLES, n))].sum(axis=2)
    shares = 1 - drawn[1, drawn[0] > 0] / drawn[0, drawn[0] > 0]
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(shares, [tail, 100 - tail])
    return Interval(value, float(low), float(high), n)


def median_ratio(
    numerator: Sequence[float], denominator: Sequence[float], *, seed: int = 0
) -> Interval:
    """The median of paired ratios with its percentile-bootstrap interval.

    With fewer than two pairs, or when all ratios are equal, the interval is the
    value itself and `n` says how little stands behind it.

    Args:
        numerator: One measurement a pair, all positive.
        denominator: The measurements they are held against, all positive.
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
    low, high = _bootstrap(ratios, "median", seed)
    return Interval(value, low, high, len(ratios))


def _bootstrap(values: np.ndarray, statistic: str, seed: int) -> tuple[float, float]:
    ci = stats.bootstrap(
        (values,),
        np.mean if statistic == "mean" else np.median,
        n_resamples=_RESAMPLES,
        batch=1000,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(ci.low), float(ci.high)
