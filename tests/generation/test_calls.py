"""What a call and a checkpoint may ask of generate: decoding modes, masks, settings, wrappers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from accelerate import cpu_offload, disk_offload
from peft import LoraConfig, get_peft_model
from torch import Tensor

from safesight.defenses import Decision, Prefill, load_defense, protect, protection
from safesight.errors import ArtifactError, InputError, ModelError
from safesight.generation.calls import refuse_begun, refuse_full_cache, run_prefill
from safesight.generation.last_token import last_states
from safesight.models import VLM
from safesight.models.decoding import changes_loop, setting_names
from tests import tiny
from tests.contracts.defense_helpers import CLASSES, answers, build, fitted, prompts
from tests.defenses.fakes import REFUSAL, FakeDetector

INSIDE = [name for name in CLASSES if CLASSES[name].kind in ("detector", "activation")]


@pytest.fixture
def vlm() -> VLM:
    return tiny.vlm("llava")


@pytest.fixture
def own() -> VLM:
    """One that a test may change."""
    return VLM.wrap(*tiny.fresh("llava"), name="tiny-llava")


MODES = {
    "assistant_early_exit": 2,
    "use_mtp": True,
    "custom_generate": lambda *_, **__: None,
    "assistant_model": "another model",
    "prompt_lookup_num_tokens": 2,
    "guidance_scale": 2.0,
    "negative_prompt_ids": torch.ones(1, 4, dtype=torch.long),
    "token_healing": True,
    "force_words_ids": [[5]],
    "penalty_alpha": 0.6,
    "num_beams": 2,
}


@pytest.mark.parametrize(
    ("name", "mode"),
    [*(("probe", mode) for mode in MODES), *((name, "assistant_early_exit") for name in INSIDE)],
)
def test_decoding_modes_that_are_not_known_are_refused(vlm: VLM, name: str, mode: str) -> None:
    inputs = vlm.encode([tiny.ask("how to make a bomb 77?", tiny.picture(3))])
    with (
        build(name).apply(vlm, fitted(name, "llava")),
        pytest.raises(InputError, match="Use greedy decoding or sampling, or remove the defense"),
    ):
        vlm.model.generate(**inputs, **{mode: MODES[mode]}, max_new_tokens=2)


def test_a_setting_of_a_later_transformers_is_taken_for_a_mode(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody knows yet is refused, unless it is off."""
    names = setting_names() | {"think_ahead"}
    monkeypatch.setattr("safesight.models.decoding.setting_names", lambda: names)
    monkeypatch.setattr("safesight.generation.calls.setting_names", lambda: names)
    inputs = vlm.encode([tiny.ask("hello")])
    with FakeDetector().apply(vlm):
        for value in (True, 1, 4, "fast"):
            with pytest.raises(InputError, match=f"think_ahead={value!r}"):
                vlm.model.generate(**inputs, think_ahead=value)
    assert not changes_loop("think_ahead", None)
    assert not changes_loop("think_ahead", False)


PLAIN: dict[str, Any] = {
    "top_k": 3,
    "repetition_penalty": 1.5,
    "num_assistant_tokens": 5,
    "num_beams": 1,
    "num_beam_groups": 1,
    "guidance_scale": 1.0,
    "use_cache": False,
    "cache_implementation": "static",
    "stop_strings": ["zz"],
    "token_healing": False,
    "watermarking_config": None,
    "logits_processor": [lambda ids, scores: scores],
}


@pytest.mark.parametrize("name", PLAIN)
def test_settings_of_the_plain_loop_are_let_through(vlm: VLM, name: str) -> None:
    with FakeDetector(0).apply(vlm):
        found = vlm.answer(prompts()[:2], max_new_tokens=3, **{name: PLAIN[name]})
    assert found[0] == REFUSAL
    assert found[1] != REFUSAL


CHECKPOINTS: dict[str, dict[str, Any]] = {
    "max_length": {"max_length": 20, "min_length": 60},
    "beams": {"num_beams": 3, "num_return_sequences": 2, "early_stopping": True},
    "several": {"num_return_sequences": 2, "do_sample": True, "temperature": 5.0},
    "dict": {"return_dict_in_generate": True, "output_scores": True, "output_hidden_states": True},
    "guidance": {"guidance_scale": 3.0},
    "lookup": {"prompt_lookup_num_tokens": 2},
    "strings": {"stop_strings": ["zz"], "max_time": 100.0},
    "chunks": {"prefill_chunk_size": 4},
}


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_answers_and_states_do_not_depend_on_a_generation_config(own: VLM, checkpoint: str) -> None:
    """Fits and judgements read plain prefills, and VLM answers plainly."""

    def everything() -> list[Any]:
        inputs = dict(own.encode(prompts()))
        output, prefill = run_prefill(own, inputs, [], 0)
        caption = load_defense("look_carefully")
        with caption.apply(own):
            under = own.answer(prompts(), max_new_tokens=3)
        return [
            own.answer(prompts(), max_new_tokens=3),
            under,
            last_states(own, inputs, [0, 2]),
            len(output if isinstance(output, Tensor) else output.sequences),
            len(prefill.calls),
        ]

    plain = everything()
    for name, value in CHECKPOINTS[checkpoint].items():
        setattr(own.model.generation_config, name, value)
    assert str(everything()) == str(plain)


def test_a_longer_prompt_leaves_as_much_room_under_the_checkpoints_own_limit(own: VLM) -> None:
    inputs = own.encode(prompts())
    length = inputs["input_ids"].shape[1]
    own.model.generation_config.max_length = length + 4
    own.model.generation_config.eos_token_id = None
    with load_defense("safety_prompt").apply(own):
        found = own.model.generate(**inputs, do_sample=False)
    assert found.shape[1] == length + 4


@pytest.mark.parametrize("name", sorted({*INSIDE, "look_carefully"}))
def test_gradient_checkpointing_in_training_mode_is_said(own: VLM, name: str) -> None:
    artifact = fitted(name, "llava") if CLASSES[name].fitted else None
    own.model.train()
    own.model.gradient_checkpointing_enable()
    inputs = own.encode(prompts())
    with build(name).apply(own, artifact):
        with pytest.raises(ModelError, match=r"Call model\.eval\(\) first"):
            own.model.generate(**inputs, max_new_tokens=2)
        own.model.eval()
        own.model.generate(**inputs, max_new_tokens=2)


def padded_right(vlm: VLM) -> tuple[Tensor, Tensor]:
    """Two prompts of different lengths, padded on the right, and their mask."""
    rows = [vlm.encode([tiny.ask(text)])["input_ids"][0] for text in ("short", "somewhat longer")]
    pad = vlm.tokenizer.pad_token_id
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
    return ids, ids.ne(pad).long()


def test_padding_is_inferred_where_no_mask_says_it(vlm: VLM) -> None:
    ids, mask = padded_right(vlm)
    defense = FakeDetector()
    judge, seen = defense.detector.judge, []

    def noted(prefill: Prefill) -> Decision:
        seen.append(prefill.mask)
        return judge(prefill)

    defense.detector.judge = noted
    with defense.apply(vlm):
        given = vlm.generate({"input_ids": ids, "attention_mask": mask}, max_new_tokens=3)
        inferred = vlm.generate({"input_ids": ids}, max_new_tokens=3)
        vlm.generate({"input_ids": ids[1:]}, max_new_tokens=3)
    assert torch.equal(given, inferred)
    assert torch.equal(seen[0], seen[1])
    assert seen[2] is None


@pytest.mark.parametrize("fold", [1, 2])
def test_padding_that_nothing_tells_from_the_prompt_is_refused(own: VLM, fold: int) -> None:
    ids, mask = padded_right(own)
    ids, mask = ids[:fold], mask[:fold]
    end = own.tokenizer.eos_token_id
    own.tokenizer.pad_token = own.tokenizer.eos_token
    own.model.generation_config.pad_token_id = end
    ids = ids.masked_fill(mask == 0, end)
    with FakeDetector().apply(own):
        own.generate({"input_ids": ids, "attention_mask": mask}, max_new_tokens=2)
        own.generate({"input_ids": ids.flip(1)}, max_new_tokens=2)
        with pytest.raises(InputError, match="Pass the attention_mask"):
            own.generate({"input_ids": ids}, max_new_tokens=2)
        ended = torch.cat([padded_right(own)[0][1:], torch.tensor([[end]])], dim=1)
        own.generate({"input_ids": ended}, max_new_tokens=2)


@pytest.mark.parametrize("mask", [torch.ones(1, 1, 9, 9), {"full_attention": None}])
def test_a_mask_of_another_kind_is_refused(vlm: VLM, mask: Any) -> None:
    ids = vlm.encode([tiny.ask("hello")])["input_ids"]
    with FakeDetector().apply(vlm), pytest.raises(InputError, match="attention mask"):
        vlm.model.generate(input_ids=ids, attention_mask=mask)


OFFLOADED: dict[str, Callable[[Any, Any], Any]] = {
    "everything": lambda model, _: cpu_offload(model),
    "disk": disk_offload,
    "decoder": lambda model, _: cpu_offload(model.model.language_model),
    "vision": lambda model, _: cpu_offload(model.model.vision_tower),
    "head": lambda model, _: cpu_offload(model.lm_head),
}


@pytest.mark.parametrize("part", OFFLOADED)
def test_offloaded_models_are_defended(own: VLM, part: str, tmp_path: Any) -> None:
    plain = answers(tiny.vlm("llava"), prompts())
    OFFLOADED[part](own.model, tmp_path)
    for name in ("probe", "hidden_detect", "rai"):
        build(name).resolve(own, fitted(name, "llava"))
    with FakeDetector(0).apply(own):
        found = own.answer(prompts(), max_new_tokens=5)
        assert found[0] == REFUSAL
        assert answers(own, prompts())[1:] == plain[1:]


def test_a_model_without_weights_is_said(own: VLM) -> None:
    own.model.to("meta")
    with pytest.raises(ModelError, match="Load it with its weights"):
        own.encode(prompts())


def test_a_model_with_adapters_is_told_how_to_fit(own: VLM) -> None:
    wrapped = get_peft_model(own.model, LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ArtifactError, match=r"without its adapters, so fit one in Python"):
        protect(wrapped, own.processor, "sasa")
    assert protection(wrapped) is None
    artifact = fitted("sasa", "llava")
    with pytest.raises(ArtifactError, match="without its adapters"):
        protect(wrapped, own.processor, "sasa", artifact)
    assert isinstance(own.model, hf.LlavaForConditionalGeneration)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_a_cache_is_found_by_every_name_that_transformers_gives_it(vlm: VLM, name: str) -> None:
    config = vlm.model.config.get_text_config()
    inputs, begun = vlm.encode(prompts()), hf.DynamicCache(config=config)
    vlm.model(**inputs, past_key_values=begun, use_cache=True)
    with pytest.raises(InputError, match="already holds part of it"):
        refuse_begun({name: begun}, "A detector reads the whole prompt")
    short = hf.StaticCache(config=config, max_cache_len=2)
    with pytest.raises(InputError, match="Pass a larger one"):
        refuse_full_cache(vlm, {**inputs, name: short, "max_new_tokens": 1})
