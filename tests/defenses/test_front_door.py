"""`protect` as a plain call and in a `with` block, and `unprotect`."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
import transformers as hf
from peft import LoraConfig, PeftModel, PromptTuningConfig, TaskType, get_peft_model

from safesight import VLM, protect, unprotect
from safesight.defenses import Parts, protection
from safesight.errors import InputError, ModelError
from tests import tiny
from tests.contracts.defense_helpers import answers, fingerprint, prompts
from tests.defenses.fakes import REFUSAL, FakeDetector, FakeEdit, FakeWeights


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    vlm = tiny.vlm("llava")
    model, processor = vlm.model, vlm.processor
    before = fingerprint(model)
    yield model, processor
    unprotect(model)
    assert fingerprint(model) == before
    assert type(model) is hf.LlavaForConditionalGeneration


def test_a_with_block_restores_on_leaving(pair: tuple[Any, Any]) -> None:
    model, processor = pair
    vlm = VLM.wrap(model, processor)
    before, plain = fingerprint(model), answers(vlm, prompts())
    with protect(model, processor, FakeDetector(0)) as same:
        assert same is model
        assert vlm.answer(prompts())[0] == REFUSAL
    assert protection(model) is None
    assert fingerprint(model) == before
    assert answers(vlm, prompts()) == plain


def test_a_with_block_restores_after_an_exception(pair: tuple[Any, Any]) -> None:
    model, processor = pair
    before = fingerprint(model)
    with pytest.raises(ZeroDivisionError), protect(model, processor, [FakeWeights(), "none"]):
        raise ZeroDivisionError
    assert fingerprint(model) == before


def test_nested_blocks_take_off_their_own(pair: tuple[Any, Any]) -> None:
    model, processor = pair
    with protect(model, processor, [FakeDetector(0), FakeEdit()]):
        with protect(model, processor, "safety_prompt"):
            assert protection(model).names == ["fake_detector", "fake_edit", "safety_prompt"]
        assert protection(model).names == ["fake_detector", "fake_edit"]
    assert protection(model) is None


def test_a_block_leaves_what_was_on_before(pair: tuple[Any, Any]) -> None:
    model, processor = pair
    protect(model, processor, "safety_prompt")
    with protect(model, processor, "none"):
        protect(model, processor, FakeEdit())
    assert protection(model).names == ["safety_prompt", "fake_edit"]


def test_a_protected_model_can_be_entered_later_and_once(pair: tuple[Any, Any]) -> None:
    model, processor = pair
    protect(model, processor, "none")
    with model:
        assert protection(model).names == ["none"]
        with pytest.raises(ModelError, match="nothing to remove"), model:
            pass
    assert protection(model) is None


def test_calls_made_before_their_blocks_each_have_one(pair: tuple[Any, Any]) -> None:
    vlm = VLM.wrap(*pair)
    first, second = protect(vlm, "safety_prompt"), protect(vlm, "adashield")
    with first:
        with second:
            assert protection(vlm.model).names == ["safety_prompt", "adashield"]
            with protect(vlm, "none"):
                assert protection(vlm.model).names == ["safety_prompt", "adashield", "none"]
        assert len(protection(vlm.model).names) == 1
        with pytest.raises(ModelError, match="nothing to remove"), second:
            pass
        with pytest.raises(ModelError, match="copied or pickled"):
            copy.copy(vlm.model)
    assert protection(vlm.model) is None


def test_every_block_removes_its_own_in_whatever_order_blocks_end(pair: tuple[Any, Any]) -> None:
    vlm = VLM.wrap(*pair)

    @contextmanager
    def defended(name: str) -> Iterator[None]:
        with protect(vlm, name):
            yield

    with ExitStack() as second:
        with ExitStack() as first:
            first.enter_context(defended("safety_prompt"))
            second.enter_context(defended("adashield"))
        assert protection(vlm.model).names == ["adashield"]
    assert protection(vlm.model) is None
    assert type(vlm.model) is hf.LlavaForConditionalGeneration


class Broken(FakeEdit):
    """Its clean-up fails."""

    name = "broken"

    def parts(self, vlm: Any, config: Any, fitted: Any) -> Parts:
        @contextmanager
        def attached() -> Iterator[None]:
            yield
            raise RuntimeError("no clean-up")

        return Parts(attached=attached())


@pytest.mark.parametrize("by_block", [True, False])
def test_a_clean_up_that_fails_keeps_no_other_defense_on(
    pair: tuple[Any, Any], by_block: bool
) -> None:
    model, processor = pair
    stack = ExitStack()
    stack.enter_context(protect(model, processor, ["safety_prompt", Broken()]))
    with pytest.raises(RuntimeError, match="no clean-up"):
        stack.close() if by_block else unprotect(model)
    assert protection(model) is None


def test_what_protect_does_not_take_is_said(pair: tuple[Any, Any]) -> None:
    vlm = VLM.wrap(*pair)
    for wrong in (None, 3, FakeEdit, [None], vlm.processor):
        with pytest.raises(InputError, match="is not a defense"):
            protect(vlm, wrong)
    with pytest.raises(InputError, match="is not an artifact"):
        protect(vlm, "sasa", {"sasa": 3})
    for wrong in (3, None):
        with pytest.raises(InputError, match="a VLM or a transformers model"):
            protect(wrong, None, "sasa")
        with pytest.raises(InputError, match="a VLM or a transformers model"):
            unprotect(wrong)
    assert protection(vlm.model) is None


def test_everything_may_be_taken_off_inside_a_block(pair: tuple[Any, Any]) -> None:
    model, processor = pair
    with protect(model, processor, "none"):
        unprotect(model)
        assert type(model) is hf.LlavaForConditionalGeneration
        protect(model, processor, "safety_prompt")
    assert protection(model).names == ["safety_prompt"]


def test_unprotect_takes_everything_off_and_may_be_repeated(pair: tuple[Any, Any]) -> None:
    model, processor = pair
    before = fingerprint(model)
    vlm = VLM.wrap(model, processor)
    for each in (model, vlm):
        unprotect(each)
        protect(model, processor, [FakeWeights(), "safety_prompt"])
        protect(vlm, FakeEdit())
        unprotect(each)
        unprotect(each)
        assert fingerprint(model) == before


def test_a_vlm_needs_no_processor(pair: tuple[Any, Any]) -> None:
    vlm = VLM.wrap(*pair)
    with protect(vlm, "safety_prompt", text="be good") as model:
        assert model is vlm.model
        assert protection(model).vlm is vlm
    with protect(vlm, defense=FakeDetector(), artifact=None) as model:
        assert protection(model).names == ["fake_detector"]


def test_a_defense_that_cannot_be_put_on_leaves_no_trace(pair: tuple[Any, Any]) -> None:
    model, processor = pair
    before = fingerprint(model)
    with pytest.raises(ModelError, match="already"):
        protect(model, processor, ["safety_prompt", "safety_prompt"])
    with pytest.raises(InputError, match="processor and a defense"):
        protect(model, "safety_prompt")
    with pytest.raises(InputError, match="No defense was given"):
        protect(model, processor, [])
    assert fingerprint(model) == before


def test_a_protected_model_is_still_what_it_was(pair: tuple[Any, Any], tmp_path: Any) -> None:
    model, processor = pair
    protect(model, processor, FakeDetector(0))
    assert isinstance(model, hf.LlavaForConditionalGeneration)
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert type(model).__module__ == hf.LlavaForConditionalGeneration.__module__
    assert model.can_generate()
    ask = hf.pipeline("image-text-to-text", model=model, processor=processor)
    found = ask(text=tiny.ask("hello", tiny.picture()), max_new_tokens=4, return_full_text=False)
    assert found[0]["generated_text"] == REFUSAL
    model.save_pretrained(tmp_path)
    assert hf.AutoConfig.from_pretrained(tmp_path).architectures == [type(model).__name__]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_protected_model_cannot_be_copied(pair: tuple[Any, Any], copied: Any) -> None:
    model, processor = pair
    protect(model, processor, "none")
    with pytest.raises(ModelError, match="copied or pickled"):
        copied(model)


def compiled_forward(model: Any) -> Any:
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def compiled_around(model: Any) -> Any:
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize(
    ("compiled", "before"),
    [(compiled_forward, True), (compiled_forward, False), (compiled_around, True)],
)
def test_a_compiled_model_is_defended(compiled: Any, before: bool) -> None:
    """Compiled before it is protected, or while it is."""
    defenses, batch = [FakeDetector(0), FakeEdit(), FakeWeights()], [tiny.ask("a"), tiny.ask("b")]
    vlm = VLM.wrap(*tiny.fresh("llava"))
    plain = answers(vlm, batch, max_new_tokens=2)
    with protect(vlm, defenses):
        wanted = answers(vlm, batch, max_new_tokens=2)
    with ExitStack() as stack:
        stack.callback(torch.compiler.reset)
        if not before:
            stack.enter_context(protect(vlm, defenses))
        model = compiled(vlm.model)
        own = VLM.wrap(model, vlm.processor)
        if before:
            assert answers(own, batch, max_new_tokens=2) == plain
            assert stack.enter_context(protect(model, vlm.processor, defenses)) is model
        assert answers(own, batch, max_new_tokens=2) == wanted
        unprotect(model)
        assert answers(own, batch, max_new_tokens=2) == plain
        assert protection(model) is None


def test_what_a_user_sets_on_a_protected_model_stays(pair: tuple[Any, Any]) -> None:
    model, processor = pair
    inputs = VLM.wrap(model, processor).encode(prompts())
    calls: list[Any] = []
    with protect(model, processor, FakeDetector(0)):
        inner = model.generate

        def counted(**inputs: Any) -> Any:
            calls.append(inputs)
            return inner(**inputs)

        model.generate = counted
        model.remove = "mine"
        defended = model.generate(**inputs, max_new_tokens=3)
    try:
        assert model.generate is counted
        assert model.remove == "mine"
        found = model.generate(**inputs, max_new_tokens=3)
        assert torch.equal(found[1:], defended[1:, : found.shape[1]])
        assert not torch.equal(found[0], defended[0, : found.shape[1]])
    finally:
        del model.generate, model.remove
    assert len(calls) == 2


def test_weights_that_are_changed_are_not_saved_as_if_they_were_not(
    pair: tuple[Any, Any], tmp_path: Any
) -> None:
    model, processor = pair
    protect(model, processor, FakeWeights())
    with pytest.raises(ModelError, match="safesight merge"):
        model.save_pretrained(tmp_path)
    unprotect(model)
    assert not list(tmp_path.iterdir())
    with protect(model, processor, "safety_prompt"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()


def lora(model: Any) -> PeftModel:
    """The model with an adapter that does something."""
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.ones_like(parameter) / 4)
    return wrapped.eval()


def test_a_peft_model_is_defended_inside_and_out() -> None:
    model, processor = tiny.fresh("llava")
    wrapped = lora(model)
    vlm = VLM.wrap(wrapped, processor)
    assert vlm.model is model
    inputs = vlm.encode(prompts())
    length = inputs["input_ids"].shape[1]
    plain = wrapped.generate(**inputs, max_new_tokens=4)
    before = fingerprint(wrapped)
    with protect(wrapped, processor, FakeDetector(0)) as same:
        assert same is wrapped
        for each in (wrapped, model):
            found = each.generate(**inputs, max_new_tokens=4)
            assert vlm.decode(found, length)[0] == REFUSAL
            assert torch.equal(found[1:, : plain.shape[1]], plain[1:])
        assert protection(wrapped) is protection(model)
    assert fingerprint(wrapped) == before
    protect(wrapped, processor, "none")
    unprotect(wrapped)
    assert fingerprint(wrapped) == before


def test_adapters_that_add_tokens_are_refused() -> None:
    model, processor = tiny.fresh("llava")
    model.config.num_attention_heads = tiny.HEADS
    config = PromptTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=2,
        token_dim=tiny.WIDTH,
        num_layers=tiny.LAYERS,
        num_attention_heads=tiny.HEADS,
    )
    wrapped = get_peft_model(model, config)
    with pytest.raises(ModelError, match="PROMPT_TUNING"):
        VLM.wrap(wrapped, processor)
