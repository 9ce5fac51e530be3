"""What learns, on and off, bit for bit; merged, and as an adapter for others."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from safesight.defenses import Artifact, load_defense
from safesight.errors import ArtifactError, InputError, ModelError, StorageError
from safesight.fitting.stored import Stored
from safesight.models import VLM
from safesight.training.choice import Choice, choose
from safesight.training.config import TuningConfig
from safesight.training.export import export_adapter, merge
from safesight.training.weights import Weights, installed, tuned
from tests import tiny
from tests.contracts.defense_helpers import fingerprint, prompts
from tests.training.helpers import fit

WAYS: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora and projector": {"projector": True},
    "full": {"parameters": "full"},
    "full block": {"parameters": "full", "layers": (2,)},
    "full map": {"parameters": "full", "layers": (0, 1), "modules": ("mlp.down_proj",)},
}


def logits(vlm: VLM) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = vlm.model(**vlm.encode(prompts())).logits
    return found


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return WAYS[request.param]


EVERYWHERE = [(name, "llava") for name in WAYS]
EVERYWHERE += [("lora", family) for family in tiny.FAMILIES if family != "llava"]
EVERYWHERE += [("full", "qwen3_vl"), ("lora and projector", "gemma3")]


@pytest.mark.parametrize(("name", "family"), EVERYWHERE)
def test_on_and_off_bit_for_bit(name: str, family: str) -> None:
    vlm = tiny.vlm(family)
    plain, before = logits(vlm), fingerprint(vlm.model)
    artifact = fit("npo", vlm, max_steps=1, **WAYS[name])
    assert fingerprint(vlm.model) == before
    defense = load_defense("npo")
    with defense.apply(vlm, artifact):
        assert not torch.equal(logits(vlm), plain)
        assert not any(module.training for module in vlm.model.modules())
        first = logits(vlm)
        assert torch.equal(logits(vlm), first)
    assert fingerprint(vlm.model) == before
    assert torch.equal(logits(vlm), plain)


def test_the_model_with_an_artifact_is_the_model_that_was_trained(way: dict[str, Any]) -> None:
    """At the end of training, dropout off, and with the artifact attached: the same bits."""
    vlm = tiny.vlm("llava")
    artifact = fit("npo", vlm, max_steps=2, **way)
    choice = Choice.of(artifact)
    with installed(vlm, choice, training=True) as result:
        result.load(artifact.tensors)
        vlm.model.eval()
        trained = logits(vlm)
        with result.off():
            base = logits(vlm)
        assert torch.equal(logits(vlm), trained)
    assert torch.equal(base, logits(vlm))
    with tuned(vlm, Weights.read(Stored(artifact, vlm))):
        assert torch.equal(logits(vlm), trained)


def test_what_learns_is_what_was_chosen(way: dict[str, Any]) -> None:
    vlm = tiny.vlm("llava")
    choice = choose(vlm, TuningConfig(**way))
    kinds = {name.split(".")[1] for name in choice.whole if name.startswith("model.")}
    assert "vision_tower" not in kinds
    assert ("multi_modal_projector" in kinds) == bool(way.get("projector"))
    layers = way.get("layers", range(4))
    named = [name for name in (*choice.lora, *choice.whole) if ".layers." in name]
    assert {int(name.split(".layers.")[1].split(".")[0]) for name in named} == set(layers)
    if way.get("parameters") == "full":
        assert choice.lora == ()
        assert ("lm_head.weight" in choice.whole) == ("layers" not in way)
    with installed(vlm, choice, training=True) as result:
        learning = {name for name, p in vlm.model.named_parameters() if p.requires_grad}
        assert len(learning) == len(result.parameters)


def test_the_projector_may_have_a_step_size_of_its_own() -> None:
    """So small a one that it hardly moves, beside matrices that do."""
    vlm = tiny.vlm("llava")
    moved = {}
    for rate in (None, 1e-9):
        artifact = fit("npo", vlm, max_steps=2, projector=True, projector_learning_rate=rate)
        before = {name: vlm.model.get_parameter(name).data for name in artifact.fitted["whole"]}
        moved[rate] = max(
            float((artifact.tensors[name] - value).abs().max()) for name, value in before.items()
        )
        ups = [t for name, t in artifact.tensors.items() if name.endswith("lora_B.weight")]
        assert max(float(t.abs().max()) for t in ups) > 1e-3
    assert moved[None] > 1e-3
    assert 0 < moved[1e-9] < 1e-6


def test_wrong_choices_are_refused() -> None:
    vlm = tiny.vlm("llava")
    with pytest.raises(InputError, match="no block 9"):
        choose(vlm, TuningConfig(layers=(9,)))
    with pytest.raises(InputError, match="unless projector is true"):
        choose(vlm, TuningConfig(projector_learning_rate=1e-5))
    with pytest.raises(InputError, match=r"'mlp.up'.*mlp\.up_proj"):
        choose(vlm, TuningConfig(modules=("mlp.up",)))
    lost = VLM.wrap(*tiny.build("llava"))
    lost.family = replace(lost.family, projector="")
    with pytest.raises(ModelError, match="projector"):
        choose(lost, TuningConfig(projector=True))


@pytest.mark.parametrize(
    ("name", "family"), [("lora", "llava"), ("full", "llava"), ("full", "qwen3_vl")]
)
def test_half_precision(name: str, family: str) -> None:
    model, processor = tiny.fresh(family)
    vlm = VLM.wrap(model.to(torch.bfloat16), processor)
    plain, before = logits(vlm), fingerprint(model)
    artifact = fit("npo", vlm, max_steps=2, **WAYS[name])
    assert fingerprint(model) == before
    kinds = {value.dtype for value in artifact.tensors.values()}
    assert kinds == {torch.float32 if name == "lora" else torch.bfloat16}
    with load_defense("npo").apply(vlm, artifact):
        assert not torch.equal(logits(vlm), plain)
        assert {p.dtype for n, p in model.named_parameters() if "lora_" not in n} == {
            torch.bfloat16
        }
    assert fingerprint(model) == before


def test_a_merged_checkpoint_answers_as_the_artifact(way: dict[str, Any], tmp_path: Path) -> None:
    vlm = tiny.vlm("llava")
    artifact = fit("npo", vlm, max_steps=2, **way)
    before = fingerprint(vlm.model)
    folder = merge(vlm, artifact, tmp_path / "merged")
    assert fingerprint(vlm.model) == before
    with load_defense("npo").apply(vlm, artifact):
        attached = logits(vlm)
    plain, merged = logits(vlm), logits(VLM.load(str(folder)))
    assert torch.allclose(merged, attached, atol=1e-4)
    assert not torch.allclose(merged, plain, atol=1e-3)
    if way.get("parameters") == "full":
        assert torch.equal(merged, attached)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3"])
def test_merged_checkpoints_of_other_architectures_load(family: str, tmp_path: Path) -> None:
    vlm = tiny.vlm(family)
    artifact = fit("npo", vlm, max_steps=1)
    folder = merge(vlm, artifact, tmp_path / "merged")
    with load_defense("npo").apply(vlm, artifact):
        assert torch.allclose(logits(VLM.load(str(folder))), logits(vlm), atol=1e-4)


def test_a_merged_checkpoint_in_half_precision(tmp_path: Path) -> None:
    """As far from the attached artifact as this precision is from float32 anyway."""
    model, processor = tiny.fresh("llava")
    vlm = VLM.wrap(model.to(torch.bfloat16), processor)
    plain = logits(vlm).float()
    rounding = (logits(tiny.vlm("llava")) - plain).abs().mean()
    artifact = fit("npo", vlm, max_steps=2)
    loaded = VLM.load(str(merge(vlm, artifact, tmp_path / "merged")), dtype="bfloat16")
    with load_defense("npo").apply(vlm, artifact):
        attached = logits(vlm).float()
    assert (logits(loaded).float() - attached).abs().mean() < 2 * rounding
    assert (attached - plain).abs().mean() > 10 * rounding


@pytest.mark.parametrize("family", ["llava", "qwen3_vl"])
def test_peft_reads_the_adapter(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    vlm = tiny.vlm(family)
    artifact = fit("npo", vlm, max_steps=2)
    folder = export_adapter(artifact, tmp_path / "adapter")
    with load_defense("npo").apply(vlm, artifact):
        attached = logits(vlm)
    theirs = PeftModel.from_pretrained(tiny.fresh(family)[0], folder).eval()
    with torch.no_grad():
        found = theirs(**vlm.encode(prompts())).logits
    assert torch.allclose(found, attached, atol=1e-6)


def test_an_adapter_that_peft_would_read_otherwise_is_not_written(tmp_path: Path) -> None:
    artifact = fit("npo", tiny.vlm("glm4v_moe"), max_steps=1)
    with pytest.raises(ArtifactError, match="safesight merge"):
        export_adapter(artifact, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_idle_settings_of_a_checkpoint_are_no_reason_not_to_merge(tmp_path: Path) -> None:
    model, processor = tiny.fresh("llava")
    vlm = VLM.wrap(model, processor)
    artifact = fit("npo", vlm, max_steps=1)
    model.generation_config.temperature = 0.1
    merge(vlm, artifact, tmp_path / "merged")
    assert model.generation_config.temperature == 0.1
    assert VLM.load(str(tmp_path / "merged")).identity != vlm.identity


def test_folders_in_use_are_left_alone(tmp_path: Path) -> None:
    vlm = tiny.vlm("llava")
    artifact = fit("npo", vlm, max_steps=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/x").write_text("x")
    with pytest.raises(StorageError, match="already exists"):
        merge(vlm, artifact, tmp_path / "mine")
    with pytest.raises(StorageError, match="already exists"):
        export_adapter(artifact, tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    vlm = tiny.vlm("llava")
    with pytest.raises(ArtifactError, match="safesight merge"):
        export_adapter(fit("npo", vlm, max_steps=1, projector=True), tmp_path / "a")
    none = Artifact("none", {})
    with pytest.raises(ArtifactError, match="none changes no weights"):
        merge(vlm, none, tmp_path / "b")
    other = VLM.wrap(*tiny.fresh("llava", seed=1))
    with pytest.raises(ArtifactError, match="was fitted on"):
        merge(other, fit("npo", vlm, max_steps=1), tmp_path / "c")


def test_damaged_artifacts_change_nothing() -> None:
    vlm = tiny.vlm("llava")
    artifact = fit("npo", vlm, max_steps=1)
    before = fingerprint(vlm.model)
    name = next(iter(artifact.tensors))
    for tensors in (
        {k: v for k, v in artifact.tensors.items() if k != name},
        {**artifact.tensors, name: torch.zeros(1)},
    ):
        with pytest.raises(ArtifactError, match=re.escape(name)):
            load_defense("npo").apply(vlm, replace(artifact, tensors=tensors)).__enter__()
        assert fingerprint(vlm.model) == before


def test_a_model_with_an_adapter_is_refused() -> None:
    vlm = VLM.wrap(*tiny.fresh("llava"))
    artifact = fit("npo", vlm, max_steps=1)
    weights = Weights.read(Stored(artifact, vlm))
    with tuned(vlm, weights):
        before = fingerprint(vlm.model)
        with pytest.raises(ModelError, match="already has an adapter"), tuned(vlm, weights):
            pass
        assert fingerprint(vlm.model) == before
