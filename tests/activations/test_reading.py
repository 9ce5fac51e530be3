from __future__ import annotations

import pytest
import torch

from safesight.activations import capture, resid_post, resid_pre
from safesight.errors import ModelError

from .blocks import Decoder, hooks_of


@pytest.mark.parametrize("as_tuple", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
def test_states_are_what_flows_between_the_blocks(as_tuple, by_name):
    model = Decoder(as_tuple=as_tuple, by_name=by_name)
    hidden = torch.randn(2, 5, 3)
    sites = [resid_pre(0), resid_post(0), resid_pre(1), resid_post(3)]
    with capture(model.layers, sites) as states:
        out = model(hidden)
    assert torch.equal(states[resid_pre(0)], hidden)
    assert torch.equal(states[resid_post(0)], states[resid_pre(1)])
    assert torch.equal(states[resid_post(3)], out)
    assert hooks_of(model) == 0


def test_only_the_first_forward_counts():
    model = Decoder()
    first, second = torch.randn(1, 5, 3), torch.randn(1, 1, 3)
    with capture(model.layers, [resid_pre(0)]) as states:
        model(first)
        model(second)
    assert torch.equal(states[resid_pre(0)], first)


def test_token_selectors():
    model = Decoder()
    hidden = torch.randn(2, 4, 3)
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    with capture(model.layers, [resid_pre(0)], tokens="last") as last:
        model(hidden)
    with capture(model.layers, [resid_pre(0)], tokens=mask) as masked:
        model(hidden)
    assert torch.equal(last[resid_pre(0)], hidden[:, -1])
    assert torch.equal(masked[resid_pre(0)], hidden[mask])


def test_states_do_not_change_when_the_model_writes_into_its_tensors():
    model = Decoder(in_place=True)
    model.added = torch.ones(1, 2, 3)
    with torch.no_grad(), capture(model.layers, [resid_post(0), resid_pre(1)]) as states:
        model(torch.zeros(1, 2, 3))
    assert torch.allclose(states[resid_pre(1)] - states[resid_post(0)], torch.ones(1, 2, 3))


def test_hooks_are_removed_after_an_exception():
    model = Decoder()
    with pytest.raises(RuntimeError, match="on purpose"), capture(model.layers, [resid_post(1)]):
        raise RuntimeError("on purpose")
    assert hooks_of(model) == 0


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_missing_layer_is_named(layer):
    model = Decoder()
    with (
        pytest.raises(ModelError, match=f"Layer {layer} does not exist.*0 to 3"),
        capture(model.layers, [resid_post(layer)]),
    ):
        pass
    assert hooks_of(model) == 0
