"""Intervals against closed forms, other libraries, and planted data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from safesight.compare.intervals import median_ratio, paired_difference, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (497, 500), (1, 1)])
def test_wilson_equals_its_closed_form(successes: int, n: int) -> None:
    z, p = 1.959963984540054, successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    rate = wilson(successes, n)
    assert (rate.value, rate.n) == (p, n)
    assert rate.low == pytest.approx(centre - half, abs=1e-12)
    assert rate.high == pytest.approx(centre + half, abs=1e-12)
    assert (rate.low, rate.high) == pytest.approx(
        proportion_confint(successes, n, method="wilson"), abs=1e-12
    )


def test_wilson_of_nothing_knows_nothing() -> None:
    rate = wilson(0, 0, empty=1.0)
    assert (rate.value, rate.low, rate.high, rate.n) == (1.0, 0.0, 1.0, 0)


def test_wilson_refuses_more_successes_than_trials() -> None:
    with pytest.raises(AssertionError):
        wilson(3, 2)


def test_paired_p_value_is_exact_mcnemar() -> None:
    before = [True] * 30 + [True] * 12 + [False] * 3 + [False] * 55
    after = [True] * 30 + [False] * 12 + [True] * 3 + [False] * 55
    change = paired_difference(before, after)
    assert (change.gained, change.lost, change.n) == (3, 12, 100)
    assert change.delta == pytest.approx(-0.09)
    assert change.p_value == pytest.approx(mcnemar([[30, 12], [3, 55]], exact=True).pvalue)
    assert change.low < -0.09 < change.high < 0


def test_paired_interval_is_narrower_than_the_unpaired_one() -> None:
    """Both arms share hard and easy samples; only pairing sees that."""
    generator = np.random.default_rng(1)
    before = generator.random(400) < 0.5
    after = before.copy()
    after[:12] = False
    change = paired_difference(before.tolist(), after.tolist())
    unpaired = 1.96 * math.sqrt(2 * 0.25 / 400)
    assert change.high - change.low < unpaired


def test_paired_interval_covers_the_truth() -> None:
    """At 95% nominal, at least 90% of 60 planted experiments cover the planted change."""
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        before = generator.random(200) < 0.7
        after = np.where(generator.random(200) < 0.25, ~before, before)
        truth = 0.25 * (1 - 2 * 0.7)
        change = paired_difference(before.tolist(), after.tolist(), seed=seed)
        covered += change.low <= truth <= change.high
    assert covered >= 54


@pytest.mark.parametrize("value", [True, False])
def test_no_change_is_not_certainty(value: bool) -> None:
    change = paired_difference([value] * 50, [value] * 50)
    assert change.delta == 0.0
    assert change.p_value == 1.0
    assert change.low == pytest.approx(-wilson(0, 50).high)
    assert change.high == pytest.approx(wilson(0, 50).high)


def test_paired_difference_is_reproducible() -> None:
    before, after = [True, False] * 20, [True, True, False, False] * 10
    assert paired_difference(before, after, seed=3) == paired_difference(before, after, seed=3)


def test_arms_of_different_length_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        paired_difference([True], [True, False])


def test_median_ratio_is_robust_to_one_slow_call() -> None:
    ratio = median_ratio([1.1] * 9 + [50.0], [1.0] * 10)
    assert ratio.value == pytest.approx(1.1)
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.n == 10


def test_median_ratio_pairs_before_dividing() -> None:
    """A machine that slows down by half through the run leaves the ratio alone."""
    base = np.linspace(1.0, 2.0, 20)
    ratio = median_ratio((base * 1.25).tolist(), base.tolist())
    assert ratio.value == pytest.approx(1.25)
    assert ratio.high - ratio.low < 1e-9
