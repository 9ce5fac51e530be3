"""Intervals over things: as wide as the number of things asks for, with any number of prompts."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.judged import table_mean

from safesight.stats.rates import wilson


def test_more_prompts_about_the_same_things_do_not_narrow_the_interval() -> None:
    outcomes = np.array([1.0, 0.0] * 6)
    things = [str(i) for i in range(12)]
    once = table_mean(np.tile(outcomes, 2), things * 2)
    often = table_mean(np.tile(outcomes, 50), things * 50)
    assert once["value"] == often["value"] == 0.5
    assert (often["low"], often["high"]) == pytest.approx((once["low"], once["high"]), abs=0.01)
    assert (often["n"], often["groups"]) == (600, 12)
    naive = wilson(300, 600)
    assert often["high"] - often["low"] > 4 * (naive.high - naive.low)


def test_seeds_are_resampled_too_and_missing_outcomes_do_not_count() -> None:
    agree = table_mean(np.full((2, 40), [[0.5], [0.5]]), [str(i) for i in range(40)])
    differ = table_mean(np.full((2, 40), [[0.0], [1.0]]), [str(i) for i in range(40)])
    expected = wilson(20, 40)  # all things agree, so each counts once
    assert (agree["low"], agree["high"]) == (round(expected.low, 4), round(expected.high, 4))
    assert differ["high"] - differ["low"] > 0.5 > agree["high"] - agree["low"]
    partial = table_mean([1.0, np.nan, 0.0, np.nan], ["a", "b", "c", "c"])
    assert (partial["value"], partial["n"]) == (0.5, 2)
    assert "groups" not in partial  # of what was measured, no two are about the same thing


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_agreement_is_not_certainty(value: float) -> None:
    found = table_mean(np.full(70, value), [str(i % 7) for i in range(70)])
    bounds = wilson(round(7 * value), 7)
    assert (found["low"], found["high"]) == (round(bounds.low, 4), round(bounds.high, 4))
    same = table_mean(np.zeros(70), [str(i % 7) for i in range(70)], "delta")
    assert same["delta"] == 0
    assert same["low"] == -same["high"] < -0.3
