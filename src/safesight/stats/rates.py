"""A proportion and its interval.

The statistics come from scipy. This file decides which interval to use, and handles the edge
cases where it is undefined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

__all__ = ["ALPHA", "LEVEL", "Interval", "clopper_pearson", "rows_for", "wilson"]

LEVEL = 0.95
"""Confidence of every interval in safesight."""

ALPHA = 0.05
"""A change is marked as significant if its corrected p-value is below it."""


@dataclass(frozen=True)
class Interval:
    """A value, its 95% interval, and the number of observations and of groups they come in."""

    value: float
    low: float
    high: float
    n: int
    groups: int | None = None
    """The number of groups that were resampled; None if samples were taken as independent."""

    def rounded(self, digits: int = 4) -> dict[str, float]:
        """The numbers as written to files for people to read, groups only if there are any.

        Example:
            >>> wilson(1, 3).rounded(2)
            {'value': 0.33, 'low': 0.06, 'high': 0.79, 'n': 3}
        """
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        groups = {} if self.groups is None else {"groups": self.groups}
        return {**{name: round(x, digits) for name, x in numbers.items()}, "n": self.n, **groups}


def wilson(successes: int, n: int) -> Interval:
    """A proportion with its Wilson score interval; of no observations, NaN in [0, 1].

    Args:
        successes: How many of the observations were successes.
        n: How many observations there were.

    Example:
        >>> rate = wilson(0, 100)
        >>> rate.value, round(rate.high, 3)
        (0.0, 0.037)
    """
    assert 0 <= successes <= n, (successes, n)
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    ci = stats.binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    # Rounding errors of 1e-17 keep the score interval from reaching 0 and 1.
    low = 0.0 if successes == 0 else float(ci.low)
    high = 1.0 if successes == n else float(ci.high)
    return Interval(successes / n, low, high, n)


def clopper_pearson(successes: int, n: int) -> Interval:
    """A proportion with its exact interval, which covers the truth at least 95% of the time.

    Args:
        successes: How many of the observations were successes.
        n: How many observations there were, at least one.

    Example:
        >>> rate = clopper_pearson(0, 100)
        >>> rate.value, round(rate.high, 3)
        (0.0, 0.036)
    """
    ci = stats.binomtest(successes, n).proportion_ci(LEVEL, method="exact")
    return Interval(successes / n, float(ci.low), float(ci.high), n)


def rows_for(rate: float) -> int:
    """The fewest observations that can show a rate to be at most `rate`: without any success.

    Below this number the exact interval reaches above `rate` whatever is observed.

    Args:
        rate: Above 0 and below 1.

    Example:
        >>> n = rows_for(0.01)
        >>> n, clopper_pearson(0, n).high <= 0.01 < clopper_pearson(0, n - 1).high
        (368, True)
    """
    return math.ceil(math.log((1 - LEVEL) / 2) / math.log1p(-rate) - 1e-9)
