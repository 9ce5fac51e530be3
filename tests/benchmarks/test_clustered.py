"""Intervals over things: as wide as the number of things asks for, with any number of prompts."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.clustered import clustered_delta, clustered_rate

from safesight.stats.rates import wilson


def test_more_prompts_about_the_same_things_do_not_narrow_the_interval() -> None:
    outcomes = np.array([1.0, 0.0] * 6)
    things = [str(i) for i in range(12)]
    once = clustered_rate(outcomes, things)
    often = clustered_rate(np.tile(outcomes, 50), things * 50)
    assert once["value"] == often["value"] == 0.5
    assert (once["low"], once["high"]) == (often["low"], often["high"])
    assert (often["n"], often["things"]) == (600, 12)
    naive = wilson(300, 600)
    assert often["high"] - often["low"] > 4 * (naive.high - naive.low)


def test_seeds_are_resampled_too_and_missing_outcomes_do_not_count() -> None:
    agree = clustered_rate(np.full((2, 40), [[0.5], [0.5]]), [str(i) for i in range(40)])
    differ = clustered_rate(np.full((2, 40), [[0.0], [1.0]]), [str(i) for i in range(40)])
    assert agree["high"] - agree["low"] < 0.01 < 0.5 < differ["high"] - differ["low"]
    partial = clustered_rate([1.0, np.nan, 0.0, np.nan], ["a", "b", "c", "c"])
    assert (partial["value"], partial["n"], partial["things"]) == (0.5, 2, 2)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_agreement_is_not_certainty(value: float) -> None:
    found = clustered_rate(np.full(70, value), [str(i % 7) for i in range(70)])
    bounds = wilson(round(7 * value), 7)
    assert (found["low"], found["high"]) == (round(bounds.low, 4), round(bounds.high, 4))
    same = clustered_delta(np.full(70, value), np.full(70, value), [str(i % 7) for i in range(70)])
    assert same["delta"] == 0
    assert same["low"] == -same["high"] < -0.3
