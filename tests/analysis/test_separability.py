"""The probe's area on states made by hand: planted, absent, and learned by heart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from safesight.analysis.results import Band, Separability
from safesight.analysis.separability import _area, separability
from safesight.errors import InputError
from safesight.stats.bootstrap import resampled

WIDTH, LAYERS, PLANTED = 32, 4, 2


def _noise(n: int, seed: int) -> Tensor:
    return torch.randn(n, LAYERS, WIDTH, generator=torch.Generator().manual_seed(seed))


def _planted(n: int) -> Separability:
    harmful, benign = _noise(n, 1), _noise(n, 2)
    harmful[:, PLANTED:, 0] += 30
    return separability(harmful, benign, form="text")


def test_a_planted_direction_is_found_at_its_layer_and_not_before() -> None:
    areas = _planted(200).areas
    assert [area.value for area in areas[PLANTED:]] == [1.0, 1.0]
    for area in areas[:PLANTED]:
        assert abs(area.value - 0.5) < 0.1
        assert 0.05 < area.high - area.low < 0.2


def _ranked(n: int, *, right: bool) -> Band:
    """The area of 2 n scores without a tie, all pairs ranked right or all wrong."""
    scores = np.arange(2.0 * n)
    low, high = scores[:n], scores[n:]
    together = np.ones((n, n), dtype=bool)
    counts = resampled(n, 0), resampled(n, 1)
    return _area(high, low, together, counts) if right else _area(low, high, together, counts)


def test_a_perfect_area_is_not_taken_for_certainty() -> None:
    few, many = _ranked(12, right=True), _ranked(60, right=True)
    assert few.value == many.value == few.high == many.high == 1.0
    assert 0.5 < few.low < many.low < 1.0
    wrong = _ranked(12, right=False)
    assert (wrong.value, wrong.low) == (0.0, 0.0)
    assert wrong.high == pytest.approx(1 - few.low)


def test_only_pairs_of_the_same_fold_are_compared() -> None:
    """Right within each fold, wrong across, as when the probes' scales differ."""
    positive, negative = np.array([2.0, 12.0]), np.array([1.0, 11.0])
    counts = resampled(2, 0), resampled(2, 1)
    within = _area(positive, negative, np.eye(2, dtype=bool), counts)
    assert within.value == 1.0
    across = _area(positive, negative, np.ones((2, 2), dtype=bool), counts)
    assert across.value == 0.75


def test_intervals_hold_the_area_and_shrink_with_the_number_of_requests() -> None:
    widths = []
    for n in (20, 160):
        harmful, benign = _noise(n, 3), _noise(n, 4)
        harmful[..., 0] += 1
        area = separability(harmful, benign, form="text").areas[0]
        assert area.low < area.value < area.high
        widths.append(area.high - area.low)
    assert widths[1] < 0.6 * widths[0]


def test_words_learned_by_heart_get_no_credit() -> None:
    """A state is a random vector of its object: nothing but the object tells the label."""
    objects = torch.randn(20, LAYERS, WIDTH, generator=torch.Generator().manual_seed(5))
    which = torch.arange(200) % 20
    states = objects[which] + 0.01 * _noise(200, 6)
    harmful, benign = states[which < 10], states[which >= 10]
    groups = [str(int(w)) for half in (which[which < 10], which[which >= 10]) for w in half]
    known = separability(harmful, benign, form="object")
    unseen = separability(harmful, benign, form="object", groups=groups)
    assert min(area.value for area in known.areas) > 0.95
    assert all(area.value < 0.8 for area in unseen.areas)
    assert (known.grouped, unseen.grouped) == (False, True)


def test_the_same_seed_gives_the_same_numbers() -> None:
    assert _planted(12) == _planted(12)


@pytest.mark.parametrize("groups", [None, ["a", "b"] * 6])
def test_too_few_requests_or_objects_are_said(groups: list[str] | None) -> None:
    n = 4 if groups is None else 6
    with pytest.raises(InputError, match="5 folds need"):
        separability(_noise(n, 0), _noise(n, 1), form="text", groups=groups)
