"""How many samples a paired comparison needs, and how small a change a given number can show.

Two arms answer the same samples; a change is tested with McNemar's exact test, as scorecards do.
Only discordant samples, on which the arms differ, count in that test. Of n samples, D are
discordant, D ~ Binomial(n, d); of these, B changed in the wanted direction, B ~ Binomial(D, q) with
q = (d + delta) / 2d. The power is the probability that the exact two-sided p-value of B of D
is at most alpha, summed over D (Duffy, Biometrics 40, 1984, without approximation).

A first guess for n is the normal approximation (Connor, Biometrics 43, 1987)

    n = [z(1 - alpha/2) sqrt(d) + z(power) sqrt(d - delta^2)]^2 / delta^2

The share d of discordant samples is usually unknown. For arms that succeed independently with
probabilities p and r, d = p (1 - r) + r (1 - p). Arms that share a model agree more often than
that, so this is usually on the safe side; the largest possible share, min(p + r, 2 - p - r),
always is.

Samples in groups of m with intraclass correlation icc tell as much as n / (1 + (m - 1) icc)
independent ones (Kish, Survey Sampling, 1965). K comparisons are planned at alpha / K, the
strictest level that Holm's correction may ask of one of them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "Plan",
    "discordant_share",
    "kish",
    "power_of",
    "samples_needed",
    "smallest_delta",
]

Ints = NDArray[np.int64]

_STEP = 1e-4
"""The unit of changes that are looked for: a hundredth of a point."""


@dataclass(frozen=True)
class Plan:
    """What is asked of a comparison, whatever its size."""

    power: float = 0.8
    """The probability of finding the change."""
    alpha: float = 0.05
    comparisons: int = 1
    """How many changes are tested together."""
    design_effect: float = 1.0
    """How many samples in groups tell as much as one independent sample."""
    group_size: float = 1.0
    """Samples per group."""

    @property
    def level(self) -> float:
        """The p-value that a single change has to reach."""
        return self.alpha / self.comparisons

    @property
    def fewest_groups(self) -> int:
        """The fewest groups whose exact test can reach the level, if all change the same way."""
        return max(1, math.ceil(1 - math.log2(self.level)))

    def independent(self, n: int) -> int:
        """How many independent samples n samples are worth; 0 if they are too few groups."""
        if n < self.fewest_groups * self.group_size:
            return 0
        return int(n / self.design_effect + 1e-9)

    def in_groups(self, independent: int) -> int:
        """How many samples are worth so many independent ones."""
        fewest = self.fewest_groups * self.group_size
        return math.ceil(max(independent * self.design_effect, fewest) - 1e-9)


def kish(group_size: float, icc: float) -> float:
    """The design effect of equally large groups.

    Example:
        >>> kish(5, 0.5), kish(5, 1.0), kish(1, 1.0)
        (3.0, 5.0, 1.0)
    """
    return 1 + (group_size - 1) * icc


def discordant_share(baseline: float, delta: float, *, worst: bool = False) -> float:
    """The share of samples on which two arms differ, if the arms succeed independently.

    Where both a rise and a fall by `delta` are possible, it is the larger share.

    Args:
        baseline: The rate of the first arm.
        delta: How far the other rate is from it, above 0.
        worst: Whether to return the largest share that the rates allow.

    Example:
        >>> [round(discordant_share(0.4, 0.05, worst=worst), 2) for worst in (False, True)]
        [0.49, 0.85]
    """
    others = [p for p in (baseline - delta, baseline + delta) if -1e-12 <= p <= 1 + 1e-12]
    assert others, (baseline, delta)
    shares = [
        min(baseline + other, 2 - baseline - other)
        if worst
        else baseline * (1 - other) + other * (1 - baseline)
        for other in others
    ]
    return min(1.0, max(*shares, delta))


def power_of(n: int, delta: float, discordant: float, level: float = 0.05) -> float:
    """The probability that the exact test on n independent pairs finds a change.

    Args:
        n: Pairs.
        delta: The true change, above 0 and at most `discordant`.
        discordant: The true share of pairs that differ.
        level: The p-value to reach.

    Example:
        >>> round(power_of(100, 0.2, 0.3), 3)
        0.961
    """
    assert 0 < delta <= discordant <= 1, (delta, discordant)
    counts = _likely(n, discordant)
    critical = _critical(counts, level)
    wanted = (discordant + delta) / (2 * discordant)
    low = stats.binom.cdf(critical, counts, wanted)
    high = stats.binom.cdf(critical, counts, 1 - wanted)
    return float((stats.binom.pmf(counts, n, discordant) * (low + high)).sum())


def _likely(n: int, share: float) -> Ints:
    """Numbers of discordant pairs that can be expected; the rest has less than 1e-12."""
    low, high = stats.binom.ppf([1e-13, 1 - 1e-13], n, share)
    return np.arange(int(low), int(high) + 1)


def _critical(counts: Ints, level: float) -> Ints:
    """The largest number of the rarer kind of change that is still significant; -1 for none."""
    found = stats.binom.ppf(level / 2, counts, 0.5).astype(np.int64)
    too_large = stats.binom.cdf(found, counts, 0.5) > level / 2
    return np.asarray(found - too_large)


def samples_needed(
    delta: float, discordant: float, plan: Plan, *, most: int = 1_000_000
) -> int | None:
    """The fewest samples with which a change is found as often as planned.

    Args:
        delta: The true change, above 0 and at most `discordant`.
        discordant: The true share of pairs that differ.
        plan: What is asked.
        most: The largest number to look for.

    Returns:
        None if more than `most` are needed.

    Example:
        >>> samples_needed(0.05, 0.49, Plan())
        1574
        >>> samples_needed(0.05, 0.49, Plan(design_effect=3.0, group_size=5))
        4722
        >>> samples_needed(1e-5, 0.48, Plan()) is None
        True
    """

    def found(n: int) -> bool:
        return power_of(n, delta, discordant, plan.level) >= plan.power

    largest = plan.independent(most)
    if largest == 0 or not found(largest):
        return None
    enough = min(_connor(delta, discordant, plan), largest)
    few = enough // 2 if enough > 1 and not found(enough // 2) else 0
    while not found(enough):
        few, enough = enough, min(2 * enough, largest)
    return plan.in_groups(_first(found, few + 1, enough))


def _connor(delta: float, discordant: float, plan: Plan) -> int:
    """The normal approximation, with one-sided power."""
    level, power = stats.norm.isf(plan.level / 2), stats.norm.ppf(plan.power)
    spread = level * math.sqrt(discordant) + power * math.sqrt(max(discordant - delta**2, 0.0))
    return max(1, int(np.ceil(spread**2 / delta**2)))


def smallest_delta(
    n: int, baseline: float, plan: Plan, *, discordant: float | None = None, worst: bool = False
) -> float | None:
    """The smallest change that n samples find as often as planned; None if they find none.

    Args:
        n: Samples.
        baseline: The rate of the first arm.
        plan: What is asked.
        discordant: The share of samples on which the arms differ; None derives it from the rates.
        worst: As in `discordant_share`.

    Example:
        >>> smallest_delta(1574, 0.4, Plan())
        0.05
    """
    independent = plan.independent(n)
    largest = max(baseline, 1 - baseline)
    if discordant is not None:
        largest = min(largest, discordant)

    def found(steps: int) -> bool:
        delta = steps * _STEP
        share = discordant or discordant_share(baseline, delta, worst=worst)
        return power_of(independent, delta, share, plan.level) >= plan.power

    most = int(largest / _STEP + 1e-9)
    if independent == 0 or most < 1 or not found(most):
        return None
    return round(_first(found, 1, most) * _STEP, 4)


def _first(found: Callable[[int], bool], low: int, high: int) -> int:
    """The first number from `low` on for which it is true; it is for `high`."""
    return low + bisect_left(range(low, high), True, key=found)
