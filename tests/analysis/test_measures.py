"""Projection, alignment, shift and bootstrap on states made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from safesight.analysis.alignment import alignment, described, without_picture
from safesight.analysis.dilution import UnsafeDirection, projection
from safesight.analysis.results import HeadMap
from safesight.analysis.shift import shift_alignment
from safesight.errors import InputError
from safesight.stats.bootstrap import bands, mean_bands, resampled
from safesight.types import Sample

LAYERS, WIDTH = 3, 8


def _text() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    benign = torch.randn(40, LAYERS, WIDTH, generator=draw) + 5
    harmful = torch.randn(40, LAYERS, WIDTH, generator=draw) + 5
    harmful[..., 3] += torch.tensor([4.0, 8.0, 100.0])
    return harmful, benign


def test_text_itself_is_at_one_and_benign_text_at_zero() -> None:
    harmful, benign = _text()
    unsafe = UnsafeDirection.of(harmful, benign)
    for rows, label, value in ((harmful, "harmful", 1.0), (benign, "benign", 0.0)):
        found = projection(unsafe, rows, form="text", label=label)  # type: ignore[arg-type]
        assert [band.value for band in found.means] == pytest.approx([value] * LAYERS, abs=1e-5)
        assert all(band.low < value < band.high for band in found.means)
    assert torch.linalg.vector_norm(unsafe.direction, dim=-1).tolist() == pytest.approx([1] * 3)


def test_half_of_the_signal_is_at_one_half_and_what_lies_across_counts_for_nothing() -> None:
    harmful, benign = _text()
    unsafe = UnsafeDirection.of(harmful, benign)
    centre = benign.mean(dim=0, keepdim=True)
    diluted = centre + 0.5 * (harmful.mean(dim=0, keepdim=True) - centre)
    across = torch.randn(1, LAYERS, WIDTH, generator=torch.Generator().manual_seed(1))
    across -= (across * unsafe.direction).sum(-1, keepdim=True) * unsafe.direction
    assert unsafe.project(diluted + 100 * across).flatten().tolist() == pytest.approx(
        [0.5] * LAYERS, abs=1e-3
    )


def test_equal_texts_have_no_direction() -> None:
    with pytest.raises(InputError, match="no direction"):
        UnsafeDirection.of(torch.ones(2, LAYERS, WIDTH), torch.ones(3, LAYERS, WIDTH))


def test_cosines_of_known_states() -> None:
    states = torch.eye(2).repeat(3, 1, 1)
    same = alignment(states, 5 * states, against="text")
    assert same.mean == pytest.approx([1.0, 1.0])
    assert same.sd == pytest.approx([0.0, 0.0])
    assert alignment(states, states.flip(1), against="describe").mean == [0.0, 0.0]
    mixed = torch.cat([states[:1], states[:1].flip(1)])
    spread = alignment(mixed, states[:1].repeat(2, 1, 1), against="text")
    assert spread.mean == pytest.approx([0.5, 0.5])
    assert spread.sd == pytest.approx([np.std([0, 1], ddof=1)] * 2)
    assert alignment(states[:1], states[:1], against="text").sd == [0.0, 0.0]


def test_what_a_request_is_compared_with_differs_in_one_thing() -> None:
    sample = Sample("7", "how?", "harmful", "bomb", image=lambda: None)  # type: ignore[arg-type, return-value]
    assert described(sample, "Say.").question == "Say."
    assert described(sample).image is sample.image
    assert without_picture(sample).image is None
    assert without_picture(sample).question == sample.question
    assert len({sample.id, described(sample).id, without_picture(sample).id}) == 3


def test_the_cosine_of_a_shift_with_itself_and_across() -> None:
    direction = torch.eye(3)
    assert shift_alignment(-2 * direction, direction).cosines == [-1.0] * 3
    assert shift_alignment(direction.roll(1, 0), direction, source="x").cosines == [0.0] * 3


@pytest.mark.parametrize(
    ("shift", "message"), [(torch.ones(2, 3), "layers of width"), (torch.zeros(3, 3), "direction")]
)
def test_a_shift_that_does_not_fit(shift: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        shift_alignment(shift, torch.eye(3))


def test_a_bootstrap_of_the_mean_is_as_wide_as_its_standard_error() -> None:
    rows = np.random.default_rng(0).normal(size=(400, 2)) * [1.0, 3.0]
    for band, sd in zip(mean_bands(rows, seed=0), (1.0, 3.0), strict=True):
        assert band.low < band.value < band.high
        assert (band.high - band.low) / 2 == pytest.approx(1.96 * sd / 20, rel=0.12)


def test_bands_always_hold_their_value() -> None:
    (band,) = bands(np.array([9.0]), np.zeros((50, 1)), 50)
    assert (band.low, band.value, band.high) == (0.0, 9.0, 9.0)
    assert (resampled(3, 1) == resampled(3, 1)).all()


def test_specific_heads_matter_for_safety_and_not_for_utility() -> None:
    nothing = [[0.0] * 3] * 2
    heads = HeadMap(
        safety=[[0.9, 0.1, 0.5], [0.0, 0.7, 0.2]],
        utility=[[0.8, 0.0, 0.1], [0.9, 0.0, 0.0]],
        safety_centred=nothing,
        utility_centred=nothing,
        n=2,
    )
    assert heads.specific(2) == [(1, 1)]
    assert heads.difference()[1] == pytest.approx([-0.9, 0.7, 0.2])
    assert heads.difference(centred=True) == nothing
