"""Intervals of rates and areas against closed forms and other libraries."""

from __future__ import annotations

import math

import pytest
from statsmodels.stats.proportion import proportion_confint

from safesight.stats import wilson
from safesight.stats.areas import newcombe
from safesight.stats.rates import clopper_pearson


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
    rate = wilson(0, 0)
    assert math.isnan(rate.value)
    assert (rate.low, rate.high, rate.n) == (0.0, 1.0, 0)


def test_wilson_refuses_more_successes_than_trials() -> None:
    with pytest.raises(AssertionError):
        wilson(3, 2)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 17), (20, 20)])
def test_clopper_pearson_is_the_beta_interval(successes: int, n: int) -> None:
    rate = clopper_pearson(successes, n)
    assert (rate.low, rate.high) == pytest.approx(proportion_confint(successes, n, method="beta"))


@pytest.mark.parametrize("area", [0.0, 0.2, 0.5, 0.97, 1.0])
def test_newcombe_holds_the_area_and_is_symmetric(area: float) -> None:
    low, high = newcombe(area, 30, 50)
    assert 0 <= low <= area <= high <= 1
    assert low < high
    assert newcombe(1 - area, 30, 50) == pytest.approx((1 - high, 1 - low))
