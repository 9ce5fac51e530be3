"""Paired changes against other libraries and planted data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from safesight.stats import holm, median_ratio, paired_difference, relative_reduction, wilson


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
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.n == 10


def test_median_ratio_pairs_before_dividing() -> None:
    """A machine that slows down by half through the run leaves the ratio alone."""
    base = np.linspace(1.0, 2.0, 20)
    ratio = median_ratio((base * 1.25).tolist(), base.tolist())
    assert ratio.value == pytest.approx(1.25)
    assert ratio.low == pytest.approx(ratio.high)


def test_a_relative_reduction_has_a_95_percent_interval() -> None:
    """Of 400 hits 160 are left, so the share that is left is a mean with a known error."""
    reduction = relative_reduction([True] * 400, [True] * 160 + [False] * 240)
    assert (reduction.value, reduction.n) == (pytest.approx(0.6), 400)
    half = 1.96 * math.sqrt(0.6 * 0.4 / 400)
    assert reduction.low == pytest.approx(0.6 - half, abs=0.003)
    assert reduction.high == pytest.approx(0.6 + half, abs=0.003)


def test_a_resample_without_a_hit_before_has_no_share() -> None:
    reduction = relative_reduction([True, True, False], [True, False, False])
    assert (reduction.value, reduction.low, reduction.high) == (0.5, 0.0, 1.0)


def test_a_full_reduction_is_not_certainty() -> None:
    reduction = relative_reduction([True] * 30 + [False], [False] * 31)
    assert (reduction.value, reduction.high) == (1.0, 1.0)
    assert reduction.low == pytest.approx(1 - wilson(0, 30).high)


def test_a_median_of_five_ratios_has_no_interval() -> None:
    """Not even the smallest and the largest of five enclose the median in 95% of cases."""
    few = median_ratio([1.0, 1.1, 1.2, 1.3, 1.4], [1.0] * 5)
    assert (few.value, few.low, few.high, few.n) == (pytest.approx(1.2), None, None, 5)
    enough = median_ratio([1.0, 1.1, 1.2, 1.3, 1.4, 1.5], [1.0] * 6)
    assert enough.low is not None


def test_holm_is_stricter_than_a_false_discovery_rate() -> None:
    """By hand: 3 * 0.01, then 2 * 0.03, which the next may not fall below."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
