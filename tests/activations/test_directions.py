from __future__ import annotations

import pytest
import torch

from safesight.activations import cosine, difference_of_means, project, unit
from safesight.errors import InputError


def test_difference_of_means_by_hand():
    positive = torch.tensor([[1.0, 4.0], [3.0, 0.0]])
    negative = torch.tensor([[1.0, 1.0]])
    assert torch.equal(difference_of_means(positive, negative), torch.tensor([1.0, 1.0]))


def test_an_empty_set_is_refused():
    with pytest.raises(InputError, match="samples of both kinds"):
        difference_of_means(torch.zeros(0, 2), torch.zeros(3, 2))


def test_projection_is_along_the_other_and_leaves_a_right_angle():
    torch.manual_seed(0)
    h, g = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    projected = project(h, g, eps=0.0)
    assert torch.allclose(((h - projected) * g).sum(-1), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(cosine(projected, g).abs(), torch.ones(2, 3))


def test_projection_survives_values_whose_squares_overflow_float16():
    h = torch.full((1, 4), 1000.0, dtype=torch.float16)
    assert not (h * h).sum().isfinite(), "the trap this guards against"
    assert torch.allclose(project(h, h), h.float(), rtol=1e-3)


def test_projection_on_nothing_is_nothing():
    assert torch.equal(project(torch.ones(1, 3), torch.zeros(1, 3)), torch.zeros(1, 3))


@pytest.mark.parametrize("vector", [torch.zeros(3), torch.tensor([1.0, torch.nan, 0.0])])
def test_no_direction_without_length(vector):
    with pytest.raises(InputError, match="no direction"):
        unit(vector)
