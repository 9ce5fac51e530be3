"""The range of calibration prompts: what is outside, and cards that have none."""

from __future__ import annotations

from typing import Any

import pytest

from safesight.fitting.ranges import KEY, CalibrationRange, Spread, in_card

WHOLE = CalibrationRange(
    n=3,
    tokens=Spread.of([12, 40, 96]),
    pictures=Spread.of([0, 1, 1]),
    scores=Spread.of([-2.0, 0.5, 1.0]),
)


def test_a_value_is_outside_only_beyond_a_tenth_of_the_range() -> None:
    spread = Spread.of([10, 30])
    assert spread.outside([8, 32]) is None
    assert spread.outside([8, 33]) == 33
    assert spread.outside([7, 32]) == 7
    assert spread.outside([0, 100]) == 100
    assert spread.outside([100], below_only=True) is None
    assert spread.outside([0, 100], below_only=True) == 0
    assert Spread.of([1, 1]).outside([2]) == 2


def test_a_card_gives_it_back() -> None:
    assert CalibrationRange.of(in_card(WHOLE)) == WHOLE


@pytest.mark.parametrize(
    "card", [{}, {KEY: None}, {KEY: {"n": 3}}, {KEY: {**WHOLE.model_dump(), "more": 1}}]
)
def test_a_card_without_a_whole_one_has_none(card: dict[str, Any]) -> None:
    assert CalibrationRange.of(card) is None
