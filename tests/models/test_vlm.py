from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import GenerationConfig

from safesight.errors import InputError, ModelError
from safesight.models import VLM
from tests import tiny


@pytest.fixture
def own() -> VLM:
    """A model that the test may change."""
    return VLM.wrap(*tiny.fresh("llava"))


def test_wrap_keeps_the_objects_it_is_given():
    model, processor = tiny.build("llava")
    vlm = VLM.wrap(model, processor, name="mine")
    assert vlm.model is model
    assert vlm.processor is processor
    assert vlm.name == "mine"
    assert "mine" in repr(vlm)


def test_generate_is_whatever_is_attached_to_the_model(own):
    calls = []
    own.model.generate = lambda **kwargs: (
        calls.append(kwargs) or torch.zeros(1, 3, dtype=torch.long)
    )
    assert own.generate({"input_ids": torch.ones(1, 2, dtype=torch.long)}).shape == (1, 3)
    assert calls[0]["do_sample"] is False


def test_greedy_by_default_whatever_the_checkpoint_says(own, capfd):
    own.model.generation_config.update(do_sample=True, temperature=50.0, top_p=0.9, top_k=40)
    batch = [tiny.ask("hi"), tiny.ask("what?", tiny.picture(0))]
    assert own.answer(batch, max_new_tokens=6) == tiny.vlm("llava").answer(batch, max_new_tokens=6)
    assert capfd.readouterr() == ("", "")
    torch.manual_seed(0)
    sampled = {own.answer(batch, max_new_tokens=6, do_sample=True)[0] for _ in range(3)}
    assert len(sampled) > 1
    config = GenerationConfig(do_sample=True, temperature=50.0, max_new_tokens=6)
    inputs = own.encode(batch)
    assert len({str(own.generate(inputs, generation_config=config)) for _ in range(3)}) > 1


def test_answers_hold_neither_prompt_nor_special_tokens(own):
    words = own.tokenizer
    prompt = own.encode([tiny.ask("hi")])["input_ids"]
    ids = words("fine, thanks", add_special_tokens=False)["input_ids"]
    end = [words.eos_token_id, words.pad_token_id]
    sequences = torch.cat([prompt, torch.tensor([[*ids, *end]])], dim=1)
    assert own.decode(sequences, prompt.shape[1]) == ["fine, thanks"]


def test_encode_without_generation_prompt_is_shorter(own):
    with_prompt = own.encode([tiny.ask("hi")])["input_ids"]
    without = own.encode([tiny.ask("hi")], add_generation_prompt=False)["input_ids"]
    assert torch.equal(with_prompt[:, : without.shape[1]], without)
    assert with_prompt.shape[1] > without.shape[1]


def test_encode_does_not_change_the_messages(own):
    messages = tiny.ask("what?", tiny.picture(0))
    before = copy.deepcopy(messages)
    own.encode([messages])
    assert messages == before


def test_a_processor_without_padding_token_is_left_alone(own):
    processor = own.processor
    processor.tokenizer.pad_token = None
    batch = [tiny.ask("hi"), tiny.ask("what?", tiny.picture(0))]
    vlm = VLM.wrap(own.model, processor)
    assert vlm.answer(batch, max_new_tokens=4) == tiny.vlm("llava").answer(batch, max_new_tokens=4)
    assert processor.tokenizer.pad_token is None


def test_what_is_not_a_processor_is_refused(own):
    with pytest.raises(ModelError, match="AutoProcessor"):
        VLM.wrap(own.model, own.tokenizer)
    with pytest.raises(ModelError, match="AutoProcessor"):
        VLM.wrap(own.model, own.processor.image_processor)


def test_an_empty_batch_is_refused(own):
    with pytest.raises(InputError, match="has no conversation"):
        own.encode([])


def test_what_the_chat_template_refuses_is_an_input_error(own):
    own.processor.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}x"
    )
    with pytest.raises(InputError, match="no system here"):
        own.encode([[{"role": "system", "content": "be kind"}]])


def test_text_and_picture_order_is_kept(own):
    picture = {"type": "image", "image": tiny.picture(0)}
    text = {"type": "text", "text": "look"}
    first = own.encode([[{"role": "user", "content": [picture, text]}]])
    second = own.encode([[{"role": "user", "content": [text, picture]}]])
    assert own.image_mask(first)[0].nonzero()[0] < own.image_mask(second)[0].nonzero()[0]


def test_identity_changes_with_weights_config_and_dtype_and_with_nothing_else(own):
    same = VLM.wrap(*tiny.fresh("llava"), name="another name")
    assert (own.identity, own.weights_hash) == (same.identity, same.weights_hash)

    other_seed = VLM.wrap(*tiny.fresh("llava", seed=1))
    assert other_seed.weights_hash != own.weights_hash

    one_element = VLM.wrap(*tiny.fresh("llava"))
    weight = one_element.lm_head.weight.data
    weight[3, 5] = torch.nextafter(weight[3, 5], torch.tensor(9.0))
    assert one_element.weights_hash != own.weights_hash

    config = VLM.wrap(*tiny.fresh("llava"))
    config.model.config.text_config.rms_norm_eps = 1e-3
    assert config.weights_hash == own.weights_hash
    assert config.identity != own.identity


def switch(config: Any) -> None:
    """What a Trainer, gradient checkpointing and people who look inside set, at every level."""
    for each in (config, config.text_config, config.vision_config):
        each.use_cache = not getattr(each, "use_cache", True)
        each.return_dict = False
        each.output_hidden_states = True
        each.output_attentions = True
        each.output_router_logits = True
        each.attention_dropout = 0.5


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_switches_that_change_no_answer_leave_the_identity_alone(family):
    model, processor = tiny.fresh(family)
    model.set_attn_implementation("eager")  # the only one that can return attentions
    before = VLM.wrap(model, processor).identity
    switch(model.config)
    model.gradient_checkpointing_enable()
    model.train()
    assert VLM.wrap(model, processor).identity == before
    model.eval()
    found = [before]
    for name, value in (("hidden_act", "relu"), ("max_position_embeddings", 7), ("novel", 1)):
        setattr(model.config.text_config, name, value)
        found.append(VLM.wrap(model, processor).identity)
    assert len(set(found)) == 4


def test_the_identity_follows_an_adapter_that_is_added_or_switched():
    model, processor = tiny.fresh("llava")
    vlm = VLM.wrap(model, processor)
    found = [vlm.identity]
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    found.append(vlm.identity)
    model.disable_adapters()
    found.append(vlm.identity)
    assert len(set(found)) == 3
    model.enable_adapters()
    assert vlm.identity == found[1]


def test_the_identity_follows_weights_that_are_changed_in_place_or_replaced():
    vlm = VLM.wrap(*tiny.fresh("llava"))
    found = [vlm.identity]
    with torch.no_grad():
        vlm.lm_head.weight.mul_(2)
    found.append(vlm.identity)
    state = {name: value * 2 for name, value in vlm.model.state_dict().items()}
    vlm.model.load_state_dict(state, assign=True)
    found.append(vlm.identity)
    assert len(set(found)) == 3
    assert found[-1] == VLM.wrap(vlm.model, vlm.processor).identity


def test_the_identity_does_not_follow_what_a_defense_puts_in_place():
    from tests.contracts.defense_helpers import build, fitted

    vlm = VLM.wrap(*tiny.fresh("llava"), name="tiny-llava")
    own, artifact = vlm.identity, fitted("npo", "llava")
    with build("npo").apply(vlm, artifact):
        assert vlm.identity == own
        vlm.answer([tiny.ask("x")], max_new_tokens=1)
        assert vlm.identity == own
    assert vlm.identity == own == VLM.wrap(vlm.model, vlm.processor).identity


def test_the_identity_follows_what_changes_under_a_defense():
    """The weights that the defense lends are given back; the others are not what they were."""
    from tests.contracts.defense_helpers import build, fitted

    vlm = VLM.wrap(*tiny.fresh("llava"), name="tiny-llava")
    own, artifact = vlm.identity, fitted("npo", "llava")
    with build("npo").apply(vlm, artifact), torch.no_grad():
        vlm.lm_head.weight.mul_(2)
    assert vlm.identity == VLM.wrap(vlm.model, vlm.processor).identity != own


def test_the_weights_hash_ignores_the_dtype_the_identity_does_not():
    model, processor = tiny.fresh("llava")
    half = VLM.wrap(model.bfloat16(), processor)
    hashes = half.weights_hash, half.identity
    full = VLM.wrap(model.float(), processor)
    assert full.weights_hash == hashes[0]
    assert full.identity != hashes[1]


def test_swapped_elements_of_a_large_tensor_are_noticed():
    from torch import nn

    from safesight.models.identity import hash_weights

    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.arange(100_000, dtype=torch.float32))

    one, other = Large(), Large()
    assert hash_weights(one) == hash_weights(other)
    with torch.no_grad():
        other.weight[:] = other.weight.flip(0)  # the same sum
    assert hash_weights(one) != hash_weights(other)
    last = Large()
    with torch.no_grad():
        last.weight[99_999] += 1  # not in the sample
    assert hash_weights(one) != hash_weights(last)
