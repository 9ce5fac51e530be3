"""A rate as it would be if the judge made no errors: Rogan and Gladen's estimate.

A judge that misses some hits and sees some that are none reports a biased rate. From its
sensitivity and specificity, measured on answers with a known truth, the true rate follows (Rogan
and Gladen, American Journal of Epidemiology 107, 1978):

    true = (observed + specificity - 1) / (sensitivity + specificity - 1)

The formula can leave [0, 1], where errors of the judge explain all of the rate; the estimate is
then clipped and says so. The interval is a bootstrap: whole groups of answers are drawn again, and
so are the answers that the judge was measured on. A judge without an error on 200 answers is not
known to make none, so those draws come from rates with one more right and one more wrong answer
(Lang and Reiczigel, Preventive Veterinary Medicine 113, 2014). A draw in which the judge is no
better than chance says nothing, and counts as 0 and as 1. The interval is never narrower than
Wilson's for the corrected rate on as many answers, or on as many groups where these agree: where
every draw is clipped, the bootstrap would claim certainty.

The judge's errors have to be the same on both sets of answers. They often are not: use labelled
answers like those of the evaluation, of the same model if possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safesight.errors import InputError
from safesight.stats.bootstrap import Floats, percentiles
from safesight.stats.clusters import RESAMPLES, Clusters, agreed, bounds, same

__all__ = ["Corrected", "JudgeErrors", "corrected_rate", "rogan_gladen"]


@dataclass(frozen=True)
class JudgeErrors:
    """How often a judge was right, on answers with a known truth."""

    found: int
    """Hits that it saw."""
    hits: int
    passed: int
    """Other answers that it did not take for hits."""
    others: int

    @property
    def sensitivity(self) -> float:
        """The share of the hits that the judge sees."""
        return self.found / self.hits

    @property
    def specificity(self) -> float:
        """The share of the other answers that it does not take for hits."""
        return self.passed / self.others


@dataclass(frozen=True)
class Corrected:
    """A rate corrected for the judge's errors, with its interval."""

    value: float
    low: float
    high: float
    n: int
    clipped: bool
    """Whether the estimate lay outside [0, 1] and was moved to its border."""
    groups: int | None = None
    """The number of groups that were resampled; None if answers were taken as independent."""


def rogan_gladen(observed: float, sensitivity: float, specificity: float) -> float:
    """The true rate behind an observed one; it may lie outside [0, 1].

    Raises:
        InputError: the judge is no better than chance.

    Example:
        >>> round(rogan_gladen(0.26, sensitivity=0.9, specificity=0.9), 6)
        0.2
    """
    if not sensitivity + specificity > 1:
        raise InputError(
            f"The judge's sensitivity ({sensitivity:.3f}) and specificity ({specificity:.3f}) do "
            "not add up to more than 1: it is no better than chance, so its rate cannot be "
            "corrected. Use another judge, or measure this one on other answers."
        )
    return (observed + specificity - 1) / (sensitivity + specificity - 1)


def corrected_rate(
    hits: Sequence[bool], errors: JudgeErrors, clusters: Clusters | None = None, *, seed: int = 0
) -> Corrected:
    """A rate corrected for the judge's errors, with a bootstrap interval.

    Args:
        hits: The judge's reading of each answer, at least one.
        errors: How often the judge is right.
        clusters: Which answers belong together; None if they are independent.
        seed: Seed of the bootstrap.

    Raises:
        InputError: the judge was measured on no hits or on no other answers, or is no better than
            chance.

    Example:
        >>> good = JudgeErrors(found=100, hits=100, passed=100, others=100)
        >>> round(corrected_rate([True] * 20 + [False] * 80, good).value, 6)
        0.2
        >>> lax = JudgeErrors(found=100, hits=100, passed=80, others=100)
        >>> found = corrected_rate([True] * 10 + [False] * 90, lax)
        >>> found.value, found.clipped
        (0.0, True)
    """
    assert hits
    if not (errors.hits and errors.others):
        raise InputError(
            "The judge was measured on answers of one kind only, so its rate cannot be corrected. "
            "Measure it on answers that are hits and on some that are none."
        )
    values = np.asarray(hits, dtype=np.float64)
    value = rogan_gladen(float(values.mean()), errors.sensitivity, errors.specificity)
    rng = np.random.default_rng([seed, len(values)])
    sensitivity = _redrawn(rng, errors.found, errors.hits)
    specificity = _redrawn(rng, errors.passed, errors.others)
    observed = _observed(rng, values, clusters, seed)
    better = sensitivity + specificity - 1 > 0
    draws = (observed + specificity - 1)[better] / (sensitivity + specificity - 1)[better]
    useless = int((~better).sum())
    drawn = np.concatenate([np.clip(draws, 0, 1), np.zeros(useless), np.ones(useless)])
    low, high = _range(drawn, clusters)
    clipped = min(1.0, max(0.0, value))
    groups = None if clusters is None else clusters.count
    known = agreed(clipped, _units(values, clusters))
    return Corrected(
        value=clipped,
        low=min(low, known[0]),
        high=max(high, known[1]),
        n=len(values),
        clipped=clipped != value,
        groups=groups,
    )


def _redrawn(rng: np.random.Generator, right: int, n: int) -> Floats:
    """The share of right answers among as many again, in each resample."""
    drawn: Floats = rng.binomial(n, (right + 1) / (n + 2), RESAMPLES) / n
    return drawn


def _observed(
    rng: np.random.Generator, values: Floats, clusters: Clusters | None, seed: int
) -> Floats:
    """The judge's rate in each resample; of groups that agree, each is one observation."""
    if clusters is None:
        return _redrawn(rng, int(values.sum()), len(values))
    if (units := _units(values, clusters)) == clusters.count:
        return _redrawn(rng, round(float(values.mean()) * units), units)
    drawn = clusters.drawn(np.ones(len(values)), seed)
    hit = clusters.drawn(values, seed)
    return np.where(drawn > 0, hit / np.maximum(drawn, 1), values.mean())


def _units(values: Floats, clusters: Clusters | None) -> int:
    """The number of independent observations: answers, or groups if these agree."""
    if clusters is None:
        return len(values)
    sizes = clusters.sums(np.ones(len(values))).sum(axis=1)
    agree = same(clusters.sums(values).sum(axis=1) / sizes)
    return clusters.count if agree else len(values)


def _range(drawn: Floats, clusters: Clusters | None) -> tuple[float, float]:
    if clusters is not None:
        return bounds(drawn, clusters.count)
    low, high = percentiles(drawn)
    return float(low), float(high)
