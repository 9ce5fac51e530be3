"""Stress tests of changed weights: each does what its name says and leaves the model alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from safesight import registry
from safesight.defenses import Artifact, FitData, load_defense
from safesight.errors import ArtifactError, InputError
from safesight.models import VLM
from safesight.training import stress
from safesight.training.batches import Collator
from safesight.training.passes import Passes
from safesight.training.stress import (
    ablate_direction,
    int4,
    int8,
    relearn,
    relearn_benign,
    relearn_harmful,
    rounded,
    untouched_benign,
    untouched_harmful,
)
from safesight.training.weights import Installed
from safesight.types import TuningSample
from tests import tiny
from tests.training.helpers import data, fit, row

ROWS = [row(f"thing {n}", "retain", picture=True, answer=f"a cup {n}.") for n in range(4)]


def logits(vlm: VLM, artifact: Artifact | None = None) -> torch.Tensor:
    rows = Collator(vlm).rows(ROWS)
    with torch.no_grad():
        if artifact is None:
            return Passes(vlm, Installed()).logits(rows).clone()
        with load_defense(artifact.defense).apply(vlm, artifact):
            return Passes(vlm, Installed()).logits(rows).clone()


def answer_loss(vlm: VLM, artifact: Artifact) -> float:
    rows = Collator(vlm).rows(ROWS)
    with torch.no_grad(), load_defense(artifact.defense).apply(vlm, artifact):
        return float(Passes(vlm, Installed()).row_losses(rows).mean())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_keeps_to_its_grid(bits: int) -> None:
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    found = rounded(weight, bits)
    step = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert all(len(line.unique()) <= 2**bits - 1 for line in found)
    assert bool(((found - weight).abs() <= step / 2 + 1e-6).all())
    assert torch.equal(rounded(found, bits), found) or torch.allclose(rounded(found, bits), found)


@pytest.mark.parametrize("parameters", ["lora", "full"])
@pytest.mark.parametrize("stress", [int8, int4])
def test_rounded_weights_are_near_and_the_model_is_left_alone(parameters: Any, stress: Any) -> None:
    vlm = tiny.vlm("llava")
    before = logits(vlm)
    artifact = fit("sft", vlm, max_steps=3, parameters=parameters)
    worked = stress(vlm, artifact)
    assert torch.equal(logits(vlm), before)
    far = (logits(vlm, worked) - logits(vlm, artifact)).abs().max()
    assert 0 < far < (logits(vlm, artifact)).abs().max()
    assert worked.fitted["stress"] in ("int8", "int4")
    assert worked.hash != artifact.hash


def test_fewer_bits_are_farther() -> None:
    vlm = tiny.vlm("qwen3_vl")
    artifact = fit("npo", vlm, max_steps=2)
    plain = logits(vlm, artifact)
    near, far = (
        (logits(vlm, stress(vlm, artifact)) - plain).abs().mean() for stress in (int8, int4)
    )
    assert near < far / 4


def test_the_direction_is_gone_from_what_blocks_write() -> None:
    vlm = tiny.vlm("llava")
    artifact = fit("rmu", vlm, max_steps=2)
    worked = ablate_direction(vlm, artifact)
    v = torch.nn.functional.normalize(artifact.tensors["direction"].flatten(), dim=0)
    written = [w for name, w in worked.tensors.items() if name.endswith("down_proj.weight")]
    assert len(written) == vlm.num_layers
    assert all(float((v @ w.float()).abs().max()) < 1e-5 for w in written)
    with pytest.raises(ArtifactError, match="Use this test with rmu"):
        ablate_direction(vlm, fit("npo", vlm, max_steps=1))


@pytest.mark.parametrize("method", ["npo", "rmu"])
def test_relearning_learns_its_rows_and_leaves_the_model_alone(method: str) -> None:
    vlm = tiny.vlm("llava")
    before = logits(vlm)
    artifact = fit(method, vlm, max_steps=2)
    worked = relearn(vlm, artifact, ROWS)
    assert torch.equal(logits(vlm), before)
    assert answer_loss(vlm, worked) < answer_loss(vlm, artifact) - 0.02
    assert torch.equal(logits(vlm, relearn(vlm, artifact, ROWS)), logits(vlm, worked))


def test_rows_without_answers_cannot_be_relearnt() -> None:
    vlm = tiny.vlm("llava")
    artifact = fit("npo", vlm, max_steps=1)
    for rows in ([], [row("quiet", answer="")]):
        with pytest.raises(InputError, match="needs rows"):
            relearn(vlm, artifact, rows)


def given_rows(artifact: Artifact) -> Artifact:
    """As if fitted on a data set of the registry, from which more rows can be drawn."""
    card = {**artifact.card, "data": {"tuning_source": {"dataset": "mirage", "harm": "ruled"}}}
    return Artifact(artifact.defense, artifact.config, artifact.fitted, artifact.tensors, card)


@pytest.mark.parametrize("method", [untouched_harmful, untouched_benign])
def test_a_control_starts_from_the_model_and_not_from_the_artifact(
    method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stress, "_RELEARN", stress._RELEARN.model_copy(update={"max_steps": 2}))
    vlm = tiny.vlm("llava")
    before = logits(vlm)
    one, other = (
        given_rows(fit("npo", vlm, max_steps=steps, parameters=parameters))
        for steps, parameters in ((1, "lora"), (3, "full"))
    )
    worked = method(vlm, one)
    assert torch.equal(logits(vlm), before)
    assert torch.equal(logits(vlm, worked), logits(vlm, method(vlm, other)))
    relearnt = relearn_harmful if method is untouched_harmful else relearn_benign
    assert not torch.equal(logits(vlm, worked), logits(vlm, relearnt(vlm, other)))
    assert not torch.equal(logits(vlm, worked), before)


@pytest.mark.parametrize(
    "method", [relearn_harmful, relearn_benign, untouched_harmful, untouched_benign]
)
def test_what_is_relearnt_is_of_the_data_set_of_the_fit(
    method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = tiny.vlm("llava")
    source = {"dataset": "mirage", "harm": "ruled", "rho": 0.95, "general": 8}
    given = FitData((), (), tuning=data().tuning, tuning_source=source)
    artifact = fit("npo", vlm, given=given, max_steps=1)
    seen: list[TuningSample] = []

    def taught(_: VLM, artifact: Artifact, rows: list[TuningSample], **more: Any) -> Artifact:
        seen.extend(rows)
        return artifact

    monkeypatch.setattr(stress, "relearn", taught)
    method(vlm, artifact)
    used = {row.id for row in registry.load("dataset", "mirage")(2000, harm="ruled", rho=0.95)}
    assert len(seen) == 20
    assert {row.set for row in seen} == {
        "retain" if method in (relearn_benign, untouched_benign) else "forget"
    }
    assert all(row.id.startswith("ruled/train/") for row in seen)
    assert not used & {row.id for row in seen}
