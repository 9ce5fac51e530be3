"""Silencing one head, and the angle between leading singular vectors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from safesight.activations import leading_angle, silence_head
from safesight.errors import InputError
from tests.activations.blocks import hooks_of


@pytest.mark.parametrize("head", [0, 1, 2])
def test_only_the_slice_of_the_head_is_gone(head: int) -> None:
    projection = nn.Linear(6, 6, bias=False)
    nn.init.eye_(projection.weight)
    mixed = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    kept = mixed.clone()
    with silence_head(projection, head, heads=3):
        out = projection(mixed)
    expected = mixed.clone()
    expected[..., 2 * head : 2 * head + 2] = 0
    assert torch.equal(out, expected)
    assert torch.equal(mixed, kept), "the caller's tensor is not written to"
    assert torch.equal(projection(mixed), mixed)
    assert hooks_of(projection) == 0


def test_the_hook_goes_after_an_exception_too() -> None:
    projection = nn.Linear(4, 4)
    with pytest.raises(RuntimeError), silence_head(projection, 0, heads=2):
        raise RuntimeError
    assert hooks_of(projection) == 0


@pytest.mark.parametrize("head", [-1, 2])
def test_a_head_that_is_not_there(head: int) -> None:
    with pytest.raises(InputError, match="from 0 to 1"), silence_head(nn.Linear(4, 4), head, 2):
        pass


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.3, 1.2, math.pi / 2])
def test_the_angle_of_a_planted_turn(angle: float) -> None:
    """Rank-one matrices: rows load on one direction by weights that are turned by the angle."""
    u = torch.tensor([math.cos(angle), math.sin(angle), 0.0], dtype=torch.float64)
    base = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).T @ torch.ones(1, 5).double()
    turned = u[:, None] @ torch.tensor([[3.0, -1.0, 2.0, 0.0, 1.0]], dtype=torch.float64)
    assert leading_angle(base, turned) == pytest.approx(angle, abs=1e-9)
    assert leading_angle(base, -turned) == pytest.approx(angle, abs=1e-9)


def test_what_is_common_to_all_rows_counts_only_without_centring() -> None:
    draw = torch.Generator().manual_seed(0)
    small = torch.randn(20, 6, generator=draw), torch.randn(20, 6, generator=draw)
    common = 1000 * torch.ones(6)
    one, two = (rows + common for rows in small)
    assert leading_angle(one, two) < 0.01
    assert leading_angle(one, two, centred=True) == pytest.approx(
        leading_angle(*(rows - rows.mean(dim=0) for rows in small)), abs=1e-3
    )


@pytest.mark.parametrize("bad", [torch.zeros(3, 2), torch.full((3, 2), torch.nan)])
def test_states_without_a_direction_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(InputError, match="no leading direction"):
        leading_angle(bad, torch.ones(3, 2))
