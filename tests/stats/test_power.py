"""Power against enumeration with statsmodels' test, simulation, and published closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from safesight.stats import sign_flips
from safesight.stats.power import (
    Plan,
    discordant_share,
    kish,
    power_of,
    samples_needed,
    smallest_delta,
)

RATES = st.floats(0.02, 0.98)


def enumerated(n: int, delta: float, discordant: float, level: float) -> float:
    """The power as the sum over all tables with n pairs."""
    up, down = (discordant + delta) / 2, (discordant - delta) / 2
    total = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            p = mcnemar([[0, lost], [gained, 0]], exact=True).pvalue if gained + lost else 1.0
            if p <= level:
                cells = [gained, lost, n - gained - lost]
                total += float(stats.multinomial.pmf(cells, n, [up, down, 1 - up - down]))
    return total


@pytest.mark.parametrize(
    ("n", "delta", "discordant", "level"),
    [(12, 0.5, 0.6, 0.05), (25, 0.3, 0.3, 0.05), (30, 0.2, 0.6, 0.1), (6, 1.0, 1.0, 0.05)],
)
def test_power_is_the_sum_over_all_tables(
    n: int, delta: float, discordant: float, level: float
) -> None:
    found = power_of(n, delta, discordant, level)
    assert found == pytest.approx(enumerated(n, delta, discordant, level), abs=1e-9)


def test_as_many_samples_as_said_find_the_change_as_often_as_said() -> None:
    """Planted: two arms that succeed independently, tested as a scorecard tests them."""
    delta, baseline = 0.15, 0.4
    n = samples_needed(delta, discordant_share(baseline, delta), Plan())
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(1000):
        before, after = rng.random(n) < baseline, rng.random(n) < baseline + delta
        changes = after.astype(int) - before.astype(int)
        found += sign_flips(changes.tolist()) <= 0.05
    assert found / 1000 == pytest.approx(0.8, abs=0.04)


def test_groups_need_as_many_more_samples_as_the_design_effect_says() -> None:
    """Planted: in a group of 4, half of the change is the group's and half the sample's own."""
    delta, discordant, size, icc = 0.25, 0.4, 4, 0.5
    plan = Plan(design_effect=kish(size, icc), group_size=size)
    groups = samples_needed(delta, discordant, plan) // size
    rng = np.random.default_rng(1)
    chances = [(discordant - delta) / 2, 1 - discordant, (discordant + delta) / 2]
    found = 0
    for _ in range(600):
        own = rng.choice([-1, 0, 1], (groups, size), p=chances)
        shared = rng.choice([-1, 0, 1], (groups, 1), p=chances)
        follows = rng.random((groups, size)) < math.sqrt(icc)
        changes = np.where(follows, shared, own)
        found += sign_flips(changes.sum(axis=1).tolist()) <= 0.05
    assert found / 600 == pytest.approx(0.8, abs=0.06)


@given(RATES, st.floats(0.02, 0.5), st.sampled_from([0.8, 0.9]), st.sampled_from([1, 20]))
@settings(max_examples=40, deadline=None)
def test_the_fewest_samples_are_just_enough(
    baseline: float, delta: float, power: float, comparisons: int
) -> None:
    plan = Plan(power=power, comparisons=comparisons)
    share = discordant_share(baseline, delta)
    n = samples_needed(delta, share, plan)
    assert power_of(n, delta, share, plan.level) >= power
    assert n == plan.fewest_groups or power_of(n - 1, delta, share, plan.level) < power


@given(RATES, st.floats(0.02, 0.3))
@settings(max_examples=40, deadline=None)
def test_the_normal_approximation_is_close_and_never_larger(baseline: float, delta: float) -> None:
    """Connor's n; the exact test is conservative, so it needs a little more."""
    share = discordant_share(baseline, delta)
    z, power = stats.norm.isf(0.025), stats.norm.ppf(0.8)
    connor = (z * math.sqrt(share) + power * math.sqrt(share - delta**2)) ** 2 / delta**2
    n = samples_needed(delta, share, Plan())
    assert connor - 1 <= n <= 1.25 * connor + 12


@given(RATES, st.floats(0.03, 0.5), st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_smallest_change_of_the_fewest_samples_is_the_change(
    baseline: float, delta: float, worst: bool
) -> None:
    delta = round(delta, 4)
    plan = Plan(design_effect=2.0, group_size=3)
    n = samples_needed(delta, discordant_share(baseline, delta, worst=worst), plan)
    found = smallest_delta(n, baseline, plan, worst=worst)
    assert found is not None
    assert found <= delta + 1e-4
    assert found > delta - 0.03 - 5 / n


@given(RATES, st.floats(0.01, 0.5))
def test_arms_cannot_differ_less_than_the_change_or_more_than_the_rates_allow(
    baseline: float, delta: float
) -> None:
    alone, most = (discordant_share(baseline, delta, worst=worst) for worst in (False, True))
    assert delta <= alone <= most <= 1


def test_groups_that_are_too_few_find_nothing() -> None:
    """Five groups that all change the same way have p = 1/16."""
    plan = Plan(design_effect=4.0, group_size=4)
    assert sign_flips([4] * 5) > plan.level >= sign_flips([4] * 6)
    assert plan.fewest_groups == 6
    assert smallest_delta(5 * 4, 1.0, plan) is None
    assert smallest_delta(6 * 4, 1.0, plan) is not None
    assert samples_needed(1.0, 1.0, plan) == 6 * 4
