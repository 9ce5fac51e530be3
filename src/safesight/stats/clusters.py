"""Samples that come in groups, such as requests about the same thing, are resampled by group.

Requests about one thing mostly succeed or fail together, so a hundred of them tell less than a
hundred about a hundred things. `Clusters` says which samples belong together. An interval draws
whole groups with replacement and, where several fit seeds were run, also seeds; a sample counts as
often as its group was drawn times as often as its seed was (Owen, Annals of Applied Statistics 1,
2007: never too narrow on average, somewhat too wide).

Few groups make percentile intervals too narrow, so the percentiles are taken further out, as far
as Student's t with G - 1 degrees of freedom demands of G groups (Hesterberg, The American
Statistician 69, 2015).

Where all groups agree, at 0% or 100% for instance, resampling can show no spread and would claim
certainty. How much samples of a group differ is then unknown; in the worst case each group is one
observation. The interval is therefore Wilson's on the number of groups.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from safesight.stats.rates import LEVEL, wilson

__all__ = [
    "RESAMPLES",
    "Clusters",
    "agreed",
    "bounds",
    "clusters_of",
    "design_effect",
    "same",
    "sign_flips",
]

RESAMPLES = 9999

_DRAWN = 50_000_000
"""Units drawn at most, in all resamples together: of more than 5,000 groups there are fewer
resamples, so that a file of any size takes seconds."""
_FEWEST_DRAWS = 999
_AT_ONCE = 5_000_000
"""Units drawn at a time, so that memory does not grow with their number."""
_KEPT = 40_000_000
"""Units of a set of resamples that is kept in memory, at one byte each."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """Which group, and which fit seed, each sample belongs to.

    Example:
        >>> clusters = Clusters(["bomb", "bomb", "axe"], [0, 1, 0])
        >>> clusters.count, clusters.sums([1, 1, 0]).tolist()
        (2, [[0.0, 0.0], [1.0, 1.0]])
    """

    groups: Sequence[Hashable]
    """One per sample."""
    seeds: Sequence[int] = ()
    """One per sample; empty if all samples are of one seed."""

    def __post_init__(self) -> None:
        assert len(self.seeds) in (0, len(self.groups)), (len(self.groups), len(self.seeds))

    def kept(self, counted: Sequence[bool]) -> Clusters:
        """Those of the samples that count."""
        chosen = [i for i, yes in enumerate(counted) if yes]
        seeds = [self.seeds[i] for i in chosen] if self.seeds else ()
        return Clusters([self.groups[i] for i in chosen], seeds)

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self._rows.max(initial=-1)) + 1

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        # In the order of their names: the order of the samples must not change an interval.
        return np.unique([str(group) for group in self.groups], return_inverse=True)[1]

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        if not self.seeds:
            return np.zeros(len(self.groups), dtype=np.int64)
        return np.unique(self.seeds, return_inverse=True)[1]

    def sums(self, values: Sequence[float] | Floats) -> Floats:
        """The sum of one number per sample, by group and seed."""
        assert len(values) == len(self.groups), (len(values), len(self.groups))
        table = np.zeros((self.count, int(self._columns.max(initial=0)) + 1))
        np.add.at(table, (self._rows, self._columns), np.asarray(values, dtype=np.float64))
        return table

    def drawn(self, values: Sequence[float] | Floats, seed: int) -> Floats:
        """The sum of the values in each resample of groups and seeds."""
        table = self.sums(values)
        groups, seeds = table.shape
        draws = min(RESAMPLES, max(_FEWEST_DRAWS, _DRAWN // groups))
        by_seed = _summed(table, _Draw(groups, draws, seed, "groups"))
        if seeds == 1:
            return np.asarray(by_seed[:, 0])
        of_seeds = _summed(np.eye(seeds), _Draw(seeds, draws, seed, "seeds"))
        return np.asarray((by_seed * of_seeds).sum(axis=1))


def clusters_of(groups: Iterable[Hashable], seeds: Sequence[int] = ()) -> Clusters | None:
    """The clusters of samples; None if no two share a group and there is one fit seed.

    Args:
        groups: What each sample is about, see `safesight.types.group_of`.
        seeds: The fit seed behind each; may be left out if there is one.

    Example:
        >>> clusters_of(["axe", "axe", "bomb"]).count
        2
        >>> clusters_of(["axe", "bomb"]) is None
        True
    """
    named = list(groups)
    several = tuple(seeds) if len(set(seeds)) > 1 else ()
    return Clusters(named, several) if several or len(set(named)) < len(named) else None


class _Draw(NamedTuple):
    """Which resamples: of how many units, how many times, from which stream."""

    units: int
    draws: int
    seed: int
    what: str


def _summed(table: Floats, draw: _Draw) -> Floats:
    """The sum of the rows of a table in each resample, a row as often as it was drawn."""
    small = draw.units * draw.draws <= _KEPT
    blocks = _kept(draw) if small else _drawn_times(draw)
    return np.concatenate([times.astype(np.float64) @ table for times in blocks])


@lru_cache(maxsize=8)
def _kept(draw: _Draw) -> tuple[NDArray[np.uint8], ...]:
    """Most numbers of a scorecard are about the same groups and share their resamples."""
    return tuple(_drawn_times(draw))


def _drawn_times(draw: _Draw) -> Iterator[NDArray[np.uint8]]:
    """How often each unit is drawn, resamples x units, some resamples at a time."""
    units = draw.units
    rng = np.random.default_rng([draw.seed, len(draw.what)])
    rows = max(1, _AT_ONCE // units)
    for start in range(0, draw.draws, rows):
        size = min(rows, draw.draws - start)
        drawn = rng.integers(0, units, (size, units)) + units * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * units)
        yield counts.reshape(size, units).astype(np.uint8)


def bounds(draws: Floats, groups: int) -> tuple[float, float]:
    """The interval of a statistic, from its value in each resample of this many groups."""
    t = stats.t.ppf((1 + LEVEL) / 2, max(groups - 1, 1))
    tail = 100 * float(stats.norm.sf(math.sqrt(groups / max(groups - 1, 1)) * t))
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def same(values: Floats) -> bool:
    """Whether all groups have the same value, so that resampling shows no spread."""
    return bool(np.ptp(values) < 1e-12)


def agreed(share: float, groups: int) -> tuple[float, float]:
    """The interval of a share that is the same in every group: Wilson's on the number of groups.

    Example:
        >>> low, high = agreed(0.0, 30)
        >>> low, round(high, 3)
        (0.0, 0.114)
    """
    if share in (0.0, 1.0):
        found = wilson(round(share * groups), groups)
        return found.low, found.high
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(share * groups, groups, 1 - LEVEL, method="wilson")
    return float(low), float(high)


def design_effect(values: Sequence[float] | Floats, clusters: Clusters) -> float:
    """How many times larger the variance of a mean is than with as many independent samples.

    Kish's design effect: n samples in groups tell as much as n / effect independent ones. The
    variance between groups is the cluster-robust one with the factor G / (G - 1). NaN for fewer
    than two groups, or if all values are equal.

    Args:
        values: One number per sample, such as whether an attack succeeded.
        clusters: Their groups; seeds are ignored.

    Example:
        >>> design_effect([1, 1, 1, 0, 0, 0], Clusters(list("aaabbb")))
        6.0
    """
    found = np.asarray(values, dtype=np.float64)
    alone = float(found.var() / len(found))
    if clusters.count < 2 or alone == 0:
        return math.nan
    between = clusters.sums(found - found.mean()).sum(axis=1)
    correction = clusters.count / (clusters.count - 1)
    return float(correction * (between**2).sum() / len(found) ** 2 / alone)


def sign_flips(changes: Sequence[int]) -> float:
    """The exact two-sided p-value of a sum of changes, one whole number per group.

    If the two arms did not differ, each group's change would be as likely as its opposite. The
    p-value is the share of all 2^G ways to flip signs whose sum is at least as far from zero; their
    distribution is built from the groups of each size of change in turn, so it is exact for any
    number of groups. With one sample per group this is McNemar's exact test.

    Args:
        changes: For each group, how many of its samples were gained minus how many were lost.

    Example:
        >>> sign_flips([-3, -2, -4, -1])
        0.125
    """
    sizes = Counter(abs(change) for change in changes if change)
    chances = np.ones(1)
    for size, groups in sizes.most_common():
        # Each of these groups adds its size or takes it away: a binomial number of them adds it.
        weights = _coins(groups)
        if len(chances) == 1:
            wider = np.zeros(2 * size * groups + 1)
            wider[:: 2 * size] = weights
        else:
            wider = np.zeros(len(chances) + 2 * size * groups)
            for added in np.flatnonzero(weights):
                begin = 2 * size * added
                wider[begin : begin + len(chances)] += weights[added] * chances
        chances = wider
    distance = np.abs(np.arange(len(chances)) - len(chances) // 2)
    return min(1.0, float(chances[distance >= abs(sum(changes))].sum()))


def _coins(n: int) -> Floats:
    """The chance of 0 to n heads of n coins, each rounded only once."""
    total, ways, half = 1 << n, 1, []
    for heads in range(n // 2 + 1):
        half.append(ways / total)
        ways = ways * (n - heads) // (heads + 1)
    return np.array(half + half[: n - n // 2][::-1])
