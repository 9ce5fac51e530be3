from __future__ import annotations

import pytest
import torch

from safesight.activations import ablate, add, capture, edit, resid_post, resid_pre, unit
from safesight.errors import ModelError

from .blocks import Cache, Decoder, hooks_of


def seen_by_last_block(model, hidden, cache=None):
    with capture(model.layers, [resid_pre(3)]) as states:
        model(hidden, cache)
    return states[resid_pre(3)]


@pytest.mark.parametrize("as_tuple", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("site", [resid_post(2), resid_pre(3)])
def test_an_edit_reaches_the_next_block_and_then_leaves(as_tuple, by_name, site):
    model = Decoder(as_tuple=as_tuple, by_name=by_name)
    hidden = torch.randn(2, 5, 3)
    plain = seen_by_last_block(model, hidden)
    vector = torch.tensor([1.0, -2.0, 0.5])
    with edit(model.layers, {site: add(vector, strength=2.0)}):
        edited = seen_by_last_block(model, hidden)
    assert torch.allclose(edited, plain + 2 * vector)
    assert torch.equal(seen_by_last_block(model, hidden), plain)
    assert hooks_of(model) == 0


@pytest.mark.parametrize("make", [add, ablate])
@pytest.mark.parametrize("site", [resid_post(1), resid_pre(1)])
def test_strength_zero_is_bit_identical(make, site):
    model = Decoder()
    hidden = torch.randn(2, 5, 3)
    plain = model(hidden)
    with edit(model.layers, {site: make(torch.full((3,), torch.inf), strength=0.0)}):
        assert torch.equal(model(hidden), plain)


def test_tokens_outside_the_selector_keep_their_bits():
    model = Decoder()
    hidden = torch.randn(2, 4, 3, dtype=torch.float32)
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    plain = seen_by_last_block(model, hidden)
    for tokens, chosen in ((mask, mask), ("last", torch.tensor([[0, 0, 0, 1]] * 2).bool())):
        with edit(model.layers, {resid_pre(3): add(torch.ones(3), tokens=tokens)}):
            edited = seen_by_last_block(model, hidden)
        assert torch.equal(edited[~chosen], plain[~chosen])
        assert (edited[chosen] != plain[chosen]).all()


def test_ablate_removes_the_component_and_nothing_else():
    direction = unit(torch.tensor([1.0, 2.0, 2.0]))
    hidden = torch.randn(2, 4, 3)
    left = ablate(direction)(hidden)
    assert torch.allclose(left @ direction, torch.zeros(2, 4), atol=1e-6)
    assert torch.allclose(left + (hidden @ direction)[..., None] * direction, hidden, atol=1e-6)


def test_edits_keep_the_dtype():
    hidden = torch.randn(1, 2, 3, dtype=torch.bfloat16)
    assert add(torch.ones(3))(hidden).dtype == torch.bfloat16
    assert ablate(torch.tensor([1.0, 0, 0]))(hidden).dtype == torch.bfloat16


def test_prefill_only_skips_the_decoding_steps_but_not_the_next_prefill():
    model = Decoder()
    prompt, token = torch.randn(1, 4, 3), torch.randn(1, 1, 3)
    shift = {resid_pre(3): add(torch.ones(3))}
    plain_prompt = seen_by_last_block(model, prompt)
    plain_token = seen_by_last_block(model, token)
    with edit(model.layers, shift, prefill_only=True):
        for _ in range(2):
            cache = Cache()
            assert torch.allclose(seen_by_last_block(model, prompt, cache), plain_prompt + 1)
            cache.seen = 4
            assert torch.equal(seen_by_last_block(model, token, cache), plain_token)


def test_prompt_length_bounds_an_edit_of_the_whole_sequence():
    model = Decoder()
    hidden = torch.randn(1, 6, 3)
    plain = seen_by_last_block(model, hidden)
    with edit(model.layers, {resid_pre(3): add(torch.ones(3))}, prompt_length=4):
        edited = seen_by_last_block(model, hidden)
    assert torch.allclose(edited[:, :4], plain[:, :4] + 1)
    assert torch.equal(edited[:, 4:], plain[:, 4:])


def test_hooks_are_removed_when_the_function_fails():
    model = Decoder()

    def fail(hidden):
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"), edit(model.layers, {resid_pre(1): fail}):
        model(torch.zeros(1, 1, 3))
    assert hooks_of(model) == 0


def test_two_edits_nest_and_unnest():
    model = Decoder()
    hidden = torch.randn(1, 2, 3)
    plain = seen_by_last_block(model, hidden)
    one, two = {resid_pre(3): add(torch.ones(3))}, {resid_pre(3): add(2 * torch.ones(3))}
    for outer, inner in ((one, two), (two, one)):
        with edit(model.layers, outer):
            with edit(model.layers, inner):
                assert torch.allclose(seen_by_last_block(model, hidden), plain + 3)
            outer_only = seen_by_last_block(model, hidden)
        assert not torch.allclose(outer_only, plain)
        assert torch.equal(seen_by_last_block(model, hidden), plain)


def test_a_function_that_changes_the_shape_is_a_bug_not_a_user_error():
    model = Decoder()
    with (
        pytest.raises(AssertionError, match="edit made"),
        edit(model.layers, {resid_pre(0): lambda hidden: hidden[:, :1]}),
    ):
        model(torch.zeros(1, 2, 3))


def test_a_missing_layer_is_named():
    with pytest.raises(ModelError), edit(Decoder().layers, {resid_pre(9): add(torch.ones(3))}):
        pass
