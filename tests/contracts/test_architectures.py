"""What every architecture must do, on tiny models with random weights (see `tests/tiny.py`).

Everything is float32. `TOLERANCE` is how far the logits of a padded batch may be
from those of its rows alone: padding changes the order of float additions.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.utils import is_torchvision_available

from safesight.activations import (
    add,
    capture,
    edit,
    record_calls,
    replay,
    resid_post,
    resid_pre,
)
from safesight.errors import InputError, MissingExtraError
from safesight.generation.last_token import at_last
from safesight.models import VLM
from tests import tiny, zoo
from tests.contracts.defense_helpers import sample

FAMILIES = (*tiny.FAMILIES, *zoo.FAMILIES)
TOLERANCE = 6e-4

NOTHING = tiny.ask("hi")
ONE = tiny.ask("what is in this picture?", tiny.picture(1))
TWO = tiny.ask("compare these", tiny.picture(2), tiny.picture(3, 32, 56))
TALK = sample(5, "benign", picture=True).messages()
MIXED = [NOTHING, ONE, TWO, TALK]
BATCHES = {"text only": [NOTHING], "one image": [ONE], "two images": [TWO], "mixed": MIXED}


@pytest.fixture(params=FAMILIES)
def vlm(request) -> VLM:
    return tiny.vlm(request.param)


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@torch.no_grad()
def forward(vlm, inputs, **kwargs):
    return vlm.model(**inputs, **kwargs)


def test_the_parts_of_the_decoder_are_found(vlm):
    assert vlm.num_layers == tiny.LAYERS == vlm.model.config.get_text_config().num_hidden_layers
    assert vlm.hidden_size == tiny.WIDTH
    assert vlm.embed_tokens is vlm.model.get_input_embeddings()
    assert vlm.lm_head is vlm.model.get_output_embeddings()
    assert vlm.vocab_size == vlm.lm_head.out_features
    for part in ("vision", "projector"):
        assert isinstance(vlm.family.part(vlm.model, part), nn.Module)


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_the_image_mask_is_where_word_embeddings_were_replaced(vlm, batch):
    inputs = vlm.encode(batch)
    with capture(vlm.layers, [resid_pre(0)]) as states:
        forward(vlm, inputs)
    with torch.no_grad():
        words = vlm.embed_tokens(inputs["input_ids"])
    replaced = (states[resid_pre(0)] != words).any(dim=-1)
    assert torch.equal(vlm.image_mask(inputs), replaced)
    pictures = torch.tensor(
        [sum(p["type"] == "image" for turn in row for p in turn["content"]) for row in batch]
    )
    assert torch.equal(vlm.image_mask(inputs).any(dim=-1), pictures > 0)


def test_captured_states_are_the_hidden_states_of_transformers(vlm):
    inputs = vlm.encode(MIXED)
    sites = [resid_pre(0), *(resid_post(layer) for layer in range(vlm.num_layers))]
    with capture(vlm.layers, sites) as states:
        out = forward(vlm, inputs, output_hidden_states=True)
    assert len(out.hidden_states) == vlm.num_layers + 1
    assert torch.equal(states[resid_pre(0)], out.hidden_states[0])
    for layer in range(vlm.num_layers - 1):
        assert torch.equal(states[resid_post(layer)], out.hidden_states[layer + 1]), layer
    last = states[resid_post(vlm.num_layers - 1)]
    with torch.no_grad():
        assert torch.equal(vlm.final_norm(last), out.hidden_states[-1])
        assert torch.allclose(vlm.logits_of(last), out.logits, atol=1e-5)


@pytest.mark.parametrize("place", [resid_pre, resid_post])
def test_an_edit_of_strength_zero_is_bit_identical_and_others_act(vlm, place):
    inputs = vlm.encode(MIXED)
    plain = forward(vlm, inputs).logits
    # Not the same number everywhere: Cohere's norm would take it out again.
    vector = torch.linspace(-1, 1, vlm.hidden_size)
    with edit(vlm.layers, {place(1): add(vector, strength=0.0)}):
        assert torch.equal(forward(vlm, inputs).logits, plain)
    with edit(vlm.layers, {place(1): add(vector, tokens="last")}):
        edited = forward(vlm, inputs).logits
    assert not torch.allclose(edited[:, -1], plain[:, -1], atol=1e-3)
    assert torch.equal(edited[:, :-1], plain[:, :-1])


def test_hooks_leave_no_trace_even_after_an_exception(vlm):
    inputs = vlm.encode(MIXED)
    forward(vlm, inputs, output_hidden_states=True)  # transformers installs hooks of its own once
    plain, hooks = forward(vlm, inputs).logits, hooks_of(vlm.model)

    def fail(hidden):
        raise RuntimeError("on purpose")

    with (
        pytest.raises(RuntimeError, match="on purpose"),
        capture(vlm.layers, [resid_post(0)]),
        record_calls(vlm.layers, start=1),
        edit(vlm.layers, {resid_post(2): fail}, prefill_only=True),
    ):
        forward(vlm, inputs)
    assert hooks_of(vlm.model) == hooks
    assert torch.equal(forward(vlm, inputs).logits, plain)


def test_a_padded_batch_equals_its_rows_one_by_one(vlm):
    together = vlm.encode(MIXED)
    logits = forward(vlm, together).logits
    answers = vlm.generate(together, max_new_tokens=6)[:, together["input_ids"].shape[1] :]
    for row, messages in enumerate(MIXED):
        alone = vlm.encode([messages])
        length = alone["input_ids"].shape[1]
        assert torch.equal(together["input_ids"][row, -length:], alone["input_ids"][0])
        assert not together["attention_mask"][row, :-length].any(), "padded on the left"
        single = forward(vlm, alone).logits[0]
        assert torch.allclose(logits[row, -length:], single, atol=TOLERANCE)
        answer = vlm.generate(alone, max_new_tokens=6)[0, length:]
        assert torch.equal(answers[row, : len(answer)], answer)


def test_cached_generation_equals_uncached(vlm):
    inputs = vlm.encode(MIXED)
    options = {"max_new_tokens": 6, "output_logits": True, "return_dict_in_generate": True}
    cached = vlm.model.generate(**inputs, **options, do_sample=False, use_cache=True)
    uncached = vlm.model.generate(**inputs, **options, do_sample=False, use_cache=False)
    assert torch.equal(cached.sequences, uncached.sequences)
    assert len(cached.logits) > 1
    for with_cache, without in zip(cached.logits, uncached.logits, strict=True):
        assert torch.allclose(with_cache, without, atol=TOLERANCE)


def test_an_edit_of_the_prompt_is_the_same_cached_and_uncached(vlm):
    inputs = vlm.encode(MIXED)
    length = inputs["input_ids"].shape[1]
    vector = 2.0 * torch.randn(vlm.hidden_size, generator=torch.Generator().manual_seed(0))
    push = {resid_post(1): add(vector, tokens=vlm.image_mask(inputs) | (inputs["input_ids"] > 5))}
    plain = vlm.generate(inputs, max_new_tokens=6)
    with edit(vlm.layers, push, prefill_only=True, prompt_length=length):
        cached = vlm.generate(inputs, max_new_tokens=6)
        uncached = vlm.generate(inputs, max_new_tokens=6, use_cache=False)
    assert torch.equal(cached, uncached)
    assert not torch.equal(cached, plain)


@pytest.mark.parametrize("layer", [1, tiny.LAYERS - 1])
def test_an_edit_of_the_last_prompt_token_is_the_same_cached_and_uncached(vlm, layer):
    """In every block, also where a model runs its last blocks on that token alone."""
    inputs = vlm.encode(MIXED)
    vector = 20.0 * torch.randn(vlm.hidden_size, generator=torch.Generator().manual_seed(0))
    # Without a cache, a placeholder that the model itself writes would want a picture.
    settings = {"max_new_tokens": 4, "suppress_tokens": [vlm.image_token_id]}
    plain = vlm.generate(inputs, **settings)
    with at_last(vlm, inputs, {layer: lambda states: states + vector}):
        cached = vlm.generate(inputs, **settings)
        uncached = vlm.generate(inputs, **settings, use_cache=False)
    assert torch.equal(cached, uncached)
    assert not torch.equal(cached, plain)


@pytest.mark.parametrize("start", [1, tiny.LAYERS - 1])
def test_replay_inside_generate_reproduces_the_last_block(vlm, start):
    inputs = vlm.encode(MIXED)
    plain = vlm.generate(inputs, max_new_tokens=4)
    sites = [resid_post(start - 1), resid_post(vlm.num_layers - 1)]
    with capture(vlm.layers, sites) as states, record_calls(vlm.layers, start=start) as calls:
        recorded = vlm.generate(inputs, max_new_tokens=4)
    assert torch.equal(recorded, plain)
    adds = [index for index, call in calls.items() if call.added is not None]
    deepstack = "DeepStack" in vlm.family.note
    assert adds == ([i for i in (1, 2) if i >= start] if deepstack else [])
    with torch.no_grad():
        again = replay(vlm.layers, calls, states[sites[0]], start)
        other = replay(vlm.layers, calls, 2 * states[sites[0]], start)
    assert torch.allclose(again, states[sites[1]], atol=1e-5)
    assert not torch.allclose(other, states[sites[1]], atol=1e-2)


def test_replay_is_exact_in_bfloat16(vlm):
    model, processor = tiny.fresh(vlm.family.name)
    half = VLM.wrap(model.bfloat16(), processor)
    inputs = half.encode(MIXED)
    sites = [resid_post(0), resid_post(half.num_layers - 1)]
    with capture(half.layers, sites) as states, record_calls(half.layers, start=1) as calls:
        forward(half, inputs)
    with torch.no_grad():
        again = replay(half.layers, calls, states[sites[0]], 1)
    assert again.dtype == torch.bfloat16
    assert torch.equal(again, states[sites[1]])


def test_replay_does_not_touch_the_cache_that_generation_goes_on_from(vlm):
    inputs = vlm.encode(MIXED)
    with capture(vlm.layers, [resid_post(0)]) as states, record_calls(vlm.layers, 1) as calls:
        cache = forward(vlm, inputs, use_cache=True).past_key_values
    before = [tensor.clone() for tensor in tensors_of(cache)]
    assert before
    with torch.no_grad():
        replay(vlm.layers, calls, 3 * states[resid_post(0)], 1)
    for now, then in zip(tensors_of(cache), before, strict=True):
        assert torch.equal(now, then)


def tensors_of(cache) -> list[torch.Tensor]:
    """Keys, values, and the states that linear attention and convolutions keep."""
    values = [value for layer in cache.layers for value in vars(layer).values()]
    values += [each for value in values if isinstance(value, dict) for each in value.values()]
    return [value for value in values if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_every_mixture_of_rows_is_answered(vlm, batch):
    answers = vlm.answer(batch, max_new_tokens=3)
    assert len(answers) == len(batch)


def test_the_users_processor_is_left_as_it_was(vlm):
    vlm.encode(MIXED)
    _, processor = tiny.build(vlm.family.name)
    assert vlm.processor is processor
    assert processor.tokenizer.padding_side == "right"


def test_a_placeholder_in_the_text_is_refused(vlm):
    placeholder = vlm.tokenizer.decode([vlm.image_token_id])
    for row in (tiny.ask(f"look: {placeholder}"), tiny.ask(placeholder, tiny.picture(0))):
        with pytest.raises(InputError, match="image placeholder"):
            vlm.encode([row])


def test_save_and_load(vlm, tmp_path):
    folder = tiny.save(vlm.family.name, tmp_path / "model")
    if vlm.family.name in zoo.NEED_TORCHVISION and not is_torchvision_available():
        with pytest.raises(MissingExtraError, match=r"torchvision.*safesight\[vision\]"):
            VLM.load(str(folder))
        return
    loaded = VLM.load(str(folder))
    assert type(loaded.model) is type(vlm.model)
    assert loaded.dtype == torch.float32
    assert loaded.identity == vlm.identity
    assert loaded.answer(MIXED, max_new_tokens=4) == vlm.answer(MIXED, max_new_tokens=4)
    half = VLM.load(str(folder), dtype="bfloat16")
    assert half.weights_hash != vlm.weights_hash, "rounded weights are other weights"
    assert half.answer([ONE], max_new_tokens=2)
