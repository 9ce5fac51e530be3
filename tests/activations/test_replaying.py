from __future__ import annotations

import gc
import weakref

import pytest
import torch

from safesight.activations import add, capture, edit, record_calls, replay, resid_post
from safesight.errors import InputError, ModelError

from .blocks import Cache, Decoder, hooks_of

HIDDEN = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))


def record(model, start, cache=None, mask=None):
    site = resid_post(start - 1)
    with (
        torch.no_grad(),
        capture(model.layers, [site]) as states,
        record_calls(model.layers, start=start) as calls,
    ):
        out = model(HIDDEN, cache, mask)
    return states[site], calls, out


@pytest.mark.parametrize("as_tuple", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("start", [1, 2, 3])
def test_replay_of_the_unchanged_state_reproduces_the_last_block(as_tuple, by_name, start):
    model = Decoder(as_tuple=as_tuple, by_name=by_name)
    state, calls, out = record(model, start)
    assert torch.equal(replay(model.layers, calls, state, start), out)
    assert hooks_of(model) == 0


@pytest.mark.parametrize("in_place", [False, True])
def test_what_the_model_adds_between_blocks_is_added_again(in_place):
    model = Decoder(in_place=in_place)
    model.added = torch.randn(2, 5, 3)
    state, calls, out = record(model, 1)
    assert torch.allclose(replay(model.layers, calls, state, 1), out, atol=1e-6)
    assert calls[2].added is None


def test_another_state_gives_another_output():
    model = Decoder()
    state, calls, out = record(model, 2)
    with torch.no_grad():
        by_hand = model.layers[3](model.layers[2](state + 1))
    assert torch.equal(replay(model.layers, calls, state + 1, 2), by_hand)
    assert not torch.allclose(by_hand, out)


def with_cache(name):
    model = Decoder()
    model.cache_name = name
    return model, Cache()


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_is_neither_kept_nor_touched_whatever_its_name(name):
    model, cache = with_cache(name)
    state, calls, _ = record(model, 1, cache)
    before = cache.seen
    replay(model.layers, calls, state, 1)
    assert cache.seen == before
    ghost = weakref.ref(cache)
    del cache
    gc.collect()
    assert ghost() is None


def test_the_mask_of_a_static_cache_is_cut_to_the_prompt():
    model = Decoder()
    with torch.no_grad(), record_calls(model.layers, start=0) as calls:
        for block in model.layers:
            block.forward = lambda hidden_states, attention_mask, **kwargs: hidden_states
        model(HIDDEN, Cache(), torch.ones(2, 1, 5, 64))
    assert calls[2].kwargs["attention_mask"].shape == (2, 1, 5, 5)
    assert calls[2].kwargs["use_cache"] is False
    assert "past_key_values" not in calls[2].kwargs


def test_only_the_prefill_is_recorded():
    model, cache = Decoder(), Cache()
    with torch.no_grad(), record_calls(model.layers, start=1) as calls:
        model(HIDDEN, cache)
        prefill = dict(calls)
        model(HIDDEN[:, :1], cache)
    assert all(calls[index] is prefill[index] for index in prefill)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_a_continued_cache_is_refused_whatever_its_name(name):
    model, cache = with_cache(name)
    cache.seen = 7
    with (
        pytest.raises(InputError, match="continues an existing cache"),
        record_calls(model.layers, start=1),
    ):
        model(HIDDEN, cache)
    assert hooks_of(model) == 0


def test_recording_inside_an_edit_sees_the_edit():
    model = Decoder()
    with edit(model.layers, {resid_post(2): add(torch.ones(3))}):
        state, calls, out = record(model, 1)
        assert torch.allclose(replay(model.layers, calls, state, 1), out)


def test_replay_without_a_recorded_forward_says_what_to_do():
    model = Decoder()
    with record_calls(model.layers, start=2) as calls:
        pass
    with pytest.raises(InputError, match=r"record_calls\(layers, start=2\)"):
        replay(model.layers, calls, HIDDEN, 2)


def test_a_missing_layer_is_named():
    with pytest.raises(ModelError), record_calls(Decoder().layers, start=4):
        pass
