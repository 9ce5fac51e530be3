"""Every defense on models that are sharded, offloaded, quantized or under an adapter.

On a CPU: accelerate's hooks move weights and inputs as they do for GPUs, to the one device
there is. The same weights elsewhere must give the same artifacts and answers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from accelerate import cpu_offload, disk_offload, dispatch_model
from peft import LoraConfig, get_peft_model

from safesight import VLM, protect, unprotect
from safesight.errors import ArtifactError, ModelError
from safesight.models.check import check
from safesight.training.choice import Choice
from safesight.training.weights import installed
from tests import tiny
from tests.contracts.defense_helpers import (
    DEFENSES,
    TUNED,
    answers,
    build,
    fingerprint,
    fit_data,
    fitted,
    prompts,
)

FAMILY = "llava"
READING = [name for name in DEFENSES if name not in TUNED]
FITS = ("sasa", "rai", "tool_vector", "hidden_detect", "refusal_direction")


def _folder() -> str:
    return tempfile.mkdtemp(prefix="safesight-test-")


def _split(model: Any, *places: str) -> Any:
    """The parts of the model dealt out to the places in turn, the later blocks to the last."""
    parts = {
        "model.vision_tower": places[0],
        "model.multi_modal_projector": places[-1],
        "model.language_model.embed_tokens": places[0],
        "model.language_model.rotary_emb": "cpu",
        "model.language_model.norm": places[-1],
        "lm_head": places[0],
    }
    for layer in range(tiny.LAYERS):
        early = layer < tiny.LAYERS // 2
        parts[f"model.language_model.layers.{layer}"] = places[0 if early else -1]
    return dispatch_model(model, parts, main_device="cpu", offload_dir=_folder(), force_hooks=True)


PLACEMENTS = {
    "two shards": lambda model: _split(model, "cpu", "cpu"),
    "half on disk": lambda model: _split(model, "cpu", "disk"),
    "offloaded to memory": lambda model: cpu_offload(model, execution_device="cpu"),
    "offloaded to disk": lambda model: disk_offload(model, _folder(), execution_device="cpu"),
}
OFFLOADED = [name for name in PLACEMENTS if name != "two shards"]


@cache
def placed(placement: str, seed: int = 0) -> VLM:
    model, processor = tiny.fresh(FAMILY, seed)
    vlm = VLM.wrap(PLACEMENTS[placement](model), processor, name="placed")
    vlm.answer([tiny.ask("hi", tiny.picture())], max_new_tokens=1)
    return vlm


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_same_weights_elsewhere_are_the_same_model(placement: str) -> None:
    vlm, plain = placed(placement), tiny.vlm(FAMILY)
    assert vlm.device == torch.device("cpu")
    assert vlm.identity == plain.identity
    assert answers(vlm, prompts()) == answers(plain, prompts())
    assert check(vlm).ok


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_other_weights_elsewhere_are_another_model(placement: str) -> None:
    assert placed(placement, seed=1).identity != placed(placement).identity
    with pytest.raises(ArtifactError, match="fitted on"):
        protect(placed(placement, seed=1), "probe", fitted("probe", FAMILY))


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", READING)
def test_answers_are_those_of_the_model_in_memory(name: str, placement: str) -> None:
    vlm, plain = placed(placement), tiny.vlm(FAMILY)
    before = answers(vlm, prompts())
    with build(name).apply(plain, fitted(name, FAMILY)):
        expected = answers(plain, prompts())
    with build(name).apply(vlm, fitted(name, FAMILY)):
        assert answers(vlm, prompts()) == expected
    assert answers(vlm, prompts()) == before


@pytest.mark.parametrize("placement", ["two shards", "half on disk"])
@pytest.mark.parametrize("name", FITS)
def test_fits_are_those_of_the_model_in_memory(name: str, placement: str) -> None:
    found = build(name).fit(placed(placement), fit_data(), seed=0, progress=False)
    expected = fitted(name, FAMILY)
    assert found.fitted == expected.fitted
    assert all(torch.equal(found.tensors[key], value) for key, value in expected.tensors.items())


@pytest.mark.parametrize("name", TUNED)
def test_weights_change_on_several_devices(name: str) -> None:
    vlm, plain = placed("two shards"), tiny.vlm(FAMILY)
    before = answers(vlm, prompts())
    with build(name).apply(plain, fitted(name, FAMILY)):
        expected = answers(plain, prompts())
    with build(name).apply(vlm, fitted(name, FAMILY)):
        assert answers(vlm, prompts()) == expected
    assert answers(vlm, prompts()) == before


@pytest.mark.parametrize("placement", OFFLOADED)
def test_offloaded_weights_are_not_changed(placement: str) -> None:
    vlm = placed(placement)
    before = answers(vlm, prompts())
    for name in TUNED:
        with pytest.raises(ModelError, match="offloaded"):
            build(name).fit(vlm, fit_data(), progress=False)
        with pytest.raises(ModelError, match="offloaded"):
            protect(vlm, build(name), fitted(name, FAMILY))
    assert answers(vlm, prompts()) == before


@cache
def saved() -> str:
    return str(tiny.save(FAMILY, Path(_folder())))


def _torchao() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return hf.TorchAoConfig(Int8WeightOnlyConfig())


QUANTIZED: dict[str, Callable[[], Any]] = {
    "int8": lambda: "int8",
    "int4": lambda: "int4",
    # These two are tried where their libraries happen to be installed: both are loaded, and
    # write to the screen, whenever transformers and PEFT find them.
    **({"torchao int8": _torchao} if find_spec("torchao") else {}),
    **(
        {
            "bitsandbytes int8": lambda: hf.BitsAndBytesConfig(load_in_8bit=True),
            "bitsandbytes int4": lambda: hf.BitsAndBytesConfig(load_in_4bit=True),
        }
        if find_spec("bitsandbytes")
        else {}
    ),
}


def load(kind: str) -> VLM:
    """A quantized model; the bundled one where the tiny ones are too narrow."""
    name = "testbed" if kind == "bitsandbytes int4" else saved()
    return VLM.load(name, quantization_config=QUANTIZED[kind](), device="cpu")


@cache
def quantized(kind: str) -> VLM:
    return load(kind)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_a_quantized_model_has_one_identity(kind: str) -> None:
    fresh = load(kind)
    before = fresh.identity
    first = answers(fresh, prompts())
    again = VLM.wrap(fresh.model, fresh.processor)
    assert again.identity == before == quantized(kind).identity
    assert answers(fresh, prompts()) == first
    others = [quantized(other).identity for other in QUANTIZED if other != kind]
    assert before not in [*others, tiny.vlm(FAMILY).identity]


@pytest.mark.parametrize("kind", QUANTIZED)
def test_a_quantized_weight_is_part_of_the_identity(kind: str) -> None:
    fresh = load(kind)
    hashes = [fresh.weights_hash]
    codes, scales = _stored(fresh.layers[2].mlp.down_proj.weight)
    for change in (lambda: codes.bitwise_xor_(5), lambda: scales.mul_(2)):
        change()
        hashes.append(VLM.wrap(fresh.model, fresh.processor).weights_hash)
    assert len(set(hashes)) == 3


def _stored(weight: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes and the scales of a quantized weight."""
    if hasattr(weight, "quant_state"):
        return weight.data, weight.quant_state.absmax
    if hasattr(weight, "SCB"):
        return weight.data, weight.SCB
    if hasattr(weight, "qdata"):
        return weight.qdata, weight.scale
    inner = weight._data
    return getattr(inner, "_data", inner), weight._scale


@pytest.mark.parametrize("kind", QUANTIZED)
@pytest.mark.parametrize("name", READING)
def test_defenses_fit_and_act_on_quantized_weights(name: str, kind: str) -> None:
    vlm = quantized(kind)
    before = answers(vlm, prompts())
    artifact = build(name).fit(vlm, fit_data(), progress=False)
    with protect(vlm, build(name), artifact):
        assert len(answers(vlm, prompts())) == len(prompts())
    assert answers(vlm, prompts()) == before


@pytest.mark.parametrize("kind", QUANTIZED)
def test_quantized_weights_are_not_changed(kind: str) -> None:
    vlm = quantized(kind)
    before = answers(vlm, prompts())
    for name in TUNED:
        with pytest.raises(ModelError, match="quantized"):
            build(name).fit(vlm, fit_data(), progress=False)
        choice = Choice.of(fitted(name, FAMILY))
        with pytest.raises(ModelError, match="quantized"), installed(vlm, choice):
            pass
    assert answers(vlm, prompts()) == before


@cache
def adapted() -> Any:
    """A PEFT model whose adapter does something, and its processor."""
    model, processor = tiny.fresh(FAMILY)
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.25)
    wrapped.eval().generate(**VLM.wrap(wrapped, processor).encode(prompts()), max_new_tokens=1)
    return wrapped, processor


@pytest.mark.parametrize("name", READING)
def test_defenses_fit_and_act_on_a_peft_model(name: str) -> None:
    wrapped, processor = adapted()
    vlm = VLM.wrap(wrapped, processor, name="adapted")
    before, plain = fingerprint(wrapped), answers(vlm, prompts())
    assert plain != answers(tiny.vlm(FAMILY), prompts())
    artifact = build(name).fit(vlm, fit_data(), progress=False)
    with protect(wrapped, processor, build(name), artifact):
        assert len(answers(vlm, prompts())) == len(prompts())
    assert answers(vlm, prompts()) == plain
    assert fingerprint(wrapped) == before


def test_weights_under_an_adapter_are_not_changed() -> None:
    wrapped, processor = adapted()
    vlm = VLM.wrap(wrapped, processor)
    before = fingerprint(wrapped)
    for name in TUNED:
        with pytest.raises(ModelError, match="adapter"):
            build(name).fit(vlm, fit_data(), progress=False)
    assert fingerprint(wrapped) == before


def test_the_state_of_an_adapter_is_part_of_the_identity() -> None:
    wrapped, processor = adapted()

    def identity() -> str:
        return VLM.wrap(wrapped, processor).identity

    active = identity()
    with wrapped.disable_adapter():
        off = identity()
        artifact = build("probe").fit(VLM.wrap(wrapped, processor), fit_data(), progress=False)
    assert active == identity()
    assert len({active, off, tiny.vlm(FAMILY).identity}) == 3
    with pytest.raises(ArtifactError, match="fitted on"):
        protect(wrapped, processor, "probe", artifact)
    unprotect(wrapped)
