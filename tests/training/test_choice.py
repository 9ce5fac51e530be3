"""Which weights get adapters: plain linear layers, no router, and how much of a block that is."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from peft.tuners.lora.model import LoraModel

from safesight.defenses import load_defense
from safesight.errors import InputError, ModelError
from safesight.models import VLM
from safesight.training.choice import Choice, choose, reached
from safesight.training.config import TuningConfig
from tests import tiny
from tests.contracts.defense_helpers import fingerprint
from tests.training.helpers import data, fit, row


@pytest.mark.parametrize("name", ["llama4", "glm4v_moe", "qwen3_vl_moe"])
def test_adapters_on_a_mixture_of_experts(name: str, caplog: pytest.LogCaptureFixture) -> None:
    vlm = VLM.wrap(*tiny.fresh(name), name=name)
    before = fingerprint(vlm.model)
    texts = [row("break it"), row("break two"), row("bake it", "retain"), row("bake b", "retain")]
    with caplog.at_level(logging.WARNING, "safesight"):
        artifact = fit("npo", vlm, given=data(*texts), max_steps=1)
    chosen = artifact.fitted["lora"]["modules"]
    assert chosen
    assert {type(vlm.model.get_submodule(each)) for each in chosen} == {torch.nn.Linear}
    assert not [each for each in chosen if {"router", "gate"} & set(each.split("."))]
    share = artifact.card["training"]["reached"]
    assert 0 < share < 0.5
    assert f"of the weights in the chosen decoder blocks of {name!r}" in caplog.text
    assert fingerprint(vlm.model) == before
    with load_defense("npo").apply(vlm, artifact):
        assert len(vlm.answer([tiny.ask("hi")], max_new_tokens=2)) == 1
    assert fingerprint(vlm.model) == before


def test_a_router_that_is_a_plain_linear_layer_is_left_out() -> None:
    vlm = VLM.wrap(*tiny.fresh("llava"))
    for name in ("router", "gate", "shared_expert_gate"):
        vlm.layers[1].mlp.add_module(name, torch.nn.Linear(2, 2))
    vlm.layers[1].mlp.router.add_module("inner", torch.nn.Linear(2, 2))
    chosen = choose(vlm, TuningConfig()).lora
    assert len(chosen) == 7 * 4
    assert sum(".gate_proj" in name for name in chosen) == 4
    with pytest.raises(InputError, match=r"has a linear layer 'mlp\.router'"):
        choose(vlm, TuningConfig(modules=("mlp.router",)))


def test_the_share_that_is_reached() -> None:
    vlm = tiny.vlm("llava")
    names = [f"model.language_model.layers.0.mlp.{name}_proj" for name in ("gate", "up")]
    block = sum(p.numel() for p in vlm.layers[0].parameters())
    one = Choice(lora=(names[0],))
    both = Choice(lora=(names[0],), whole=(f"{names[1]}.weight",))
    size = vlm.layers[0].mlp.gate_proj.weight.numel()
    assert reached(vlm, one, (0,)) == pytest.approx(size / block)
    assert reached(vlm, one, None) == pytest.approx(size / block / 4)
    assert reached(vlm, both, (0,)) == pytest.approx(2 * size / block)
    assert reached(vlm, one, (1,)) == 0


def test_a_dense_model_is_no_cause_for_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    vlm = tiny.vlm("llava")
    choose(vlm, TuningConfig())
    choose(vlm, TuningConfig(modules=("mlp.down_proj",)))
    assert not caplog.text
    assert reached(vlm, choose(vlm, TuningConfig()), None) > 0.95


@pytest.mark.parametrize(
    ("error", "seen"),
    [(KeyboardInterrupt, KeyboardInterrupt), (MemoryError, MemoryError), (ValueError, ModelError)],
)
@pytest.mark.parametrize("after", [0, 3])
def test_placing_that_stops_half_way_leaves_the_model_as_it_was(
    after: int,
    error: type[BaseException],
    seen: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vlm = VLM.wrap(*tiny.fresh("llava"))
    before, placed = fingerprint(vlm.model), [0]
    original = LoraModel._create_and_replace

    def replace(self: Any, *args: Any, **kwargs: Any) -> Any:
        if placed[0] == after:
            raise error
        placed[0] += 1
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(LoraModel, "_create_and_replace", replace)
        with pytest.raises(seen):
            fit("npo", vlm, max_steps=1)
    assert fingerprint(vlm.model) == before
    assert not any("peft" in type(module).__module__ for module in vlm.model.modules())
    fit("npo", vlm, max_steps=1)  # nothing is in the way of the next one
