"""Weights and adapters that change under a defense which depends on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from safesight.defenses import AnyDefense, load_defense, protect, protection, unprotect
from safesight.errors import ModelError
from safesight.models import VLM
from safesight.models.changes import weights_state
from tests import tiny
from tests.contracts.defense_helpers import answers, build, fingerprint, fitted, prompts
from tests.defenses.fakes import FakeDetector, FakeEdit, FakeWeights

LORA = LoraConfig(r=2, target_modules=["q_proj", "down_proj"])


@pytest.fixture
def vlm() -> VLM:
    return VLM.wrap(*tiny.fresh("llava"), name="tiny-llava")


def in_place(model: Any) -> None:
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)


def reloaded(model: Any) -> None:
    model.load_state_dict({name: value * 2 for name, value in model.state_dict().items()})


def replaced(model: Any) -> None:
    model.model.language_model.layers[1].mlp.down_proj = nn.Linear(2 * tiny.WIDTH, tiny.WIDTH)


def assigned(model: Any) -> None:
    """Other parameters, changed as often as those whose place they take."""
    old = model.lm_head.weight
    new = nn.Parameter(old.detach() * 2)
    with torch.no_grad():
        while new._version < old._version:
            new.add_(0)
    assert new._version == old._version
    model.lm_head.weight = new


def converted(model: Any) -> None:
    model.to(torch.float64)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "add_adapter": lambda model: model.add_adapter(LORA),
    "get_peft_model": lambda model: get_peft_model(model, LORA),
    "in place": in_place,
    "load_state_dict": reloaded,
    "other parameters": assigned,
    "another module": replaced,
    "another dtype": converted,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("defense", [FakeWeights, FakeDetector, FakeEdit])
def test_a_change_is_noticed_at_the_next_call(
    vlm: VLM, defense: type[AnyDefense], change: str
) -> None:
    protect(vlm, ["safety_prompt", defense()])
    answers(vlm, prompts())
    CHANGES[change](vlm.model)
    with pytest.raises(ModelError, match=f"changed since {defense.name} was attached"):
        answers(vlm, prompts())
    with pytest.raises(ModelError, match="have changed since"):
        protect(vlm, "none")
    unprotect(vlm)
    assert protection(vlm.model) is None
    answers(vlm, prompts())


@pytest.mark.parametrize("change", CHANGES)
def test_a_defense_that_needs_no_weights_goes_on(vlm: VLM, change: str) -> None:
    protect(vlm, "safety_prompt")
    CHANGES[change](vlm.model)
    answers(vlm, prompts())


def test_adapters_that_are_switched_are_noticed_and_may_be_switched_back(vlm: VLM) -> None:
    wrapped = get_peft_model(vlm.model, LORA)
    wrapped.add_adapter("second", LORA)
    protect(wrapped, vlm.processor, FakeDetector(0))
    plain = answers(vlm, prompts())
    switches: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
        (lambda: wrapped.set_adapter("second"), lambda: wrapped.set_adapter("default")),
        (wrapped.base_model.disable_adapter_layers, wrapped.base_model.enable_adapter_layers),
        (wrapped.merge_adapter, wrapped.unmerge_adapter),
    ]
    for switch, back in switches:
        switch()
        with pytest.raises(ModelError, match="Undo the change"):
            answers(vlm, prompts())
        back()
        if back is not wrapped.unmerge_adapter:  # which does not restore every bit
            assert answers(vlm, prompts()) == plain


@pytest.mark.parametrize("change", ["add_adapter", "get_peft_model", "in place"])
def test_a_trained_defense_is_never_switched_off_in_silence(vlm: VLM, change: str) -> None:
    artifact = fitted("npo", "llava")
    protect(vlm, build("npo"), artifact)
    answers(vlm, prompts())
    CHANGES[change](vlm.model)
    with pytest.raises(ModelError, match="changed since npo"):
        answers(vlm, prompts())


def test_the_comings_and_goings_of_defenses_are_no_change(vlm: VLM) -> None:
    plain, before = answers(vlm, prompts()), fingerprint(vlm.model)
    with FakeDetector().apply(vlm):
        state = weights_state(vlm.model)
        with build("npo").apply(vlm, fitted("npo", "llava")):
            assert weights_state(vlm.model) != state
            answers(vlm, prompts())
        answers(vlm, prompts())
        with load_defense("none").apply(vlm), FakeEdit().apply(vlm):
            answers(vlm, prompts())
        vlm.model.to(torch.float64).to(torch.float32)
        assert answers(vlm, prompts()) == plain
    assert fingerprint(vlm.model) == before
