"""The tool vector: the shift it measures, the edit it makes, and the block it chooses."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from safesight.activations import capture, resid_post
from safesight.defenses import Artifact, FitData, load_defense
from safesight.defenses.tool_vector.calibration import _best, _Trial
from safesight.defenses.tool_vector.method import ablated, orthogonal
from safesight.defenses.tool_vector.states import explained, shift_report, split_half, states_under
from safesight.errors import ArtifactError, InputError
from safesight.models import VLM
from safesight.types import Sample
from tests import tiny
from tests.contracts.defense_helpers import fit_data, prompts, sample

LAYER = 2


@cache
def fitted() -> Artifact:
    return load_defense("tool_vector").fit(tiny.vlm("llava"), fit_data(), progress=False)


def states(vlm: VLM, artifact: Artifact, batch: list[Any], **config: Any) -> torch.Tensor:
    """The output of every block during the prefill, N x B x L x d."""
    sites = [resid_post(layer) for layer in range(vlm.num_layers)]
    with (
        load_defense("tool_vector", layer=LAYER, **config).apply(vlm, artifact),
        capture(vlm.layers, sites) as seen,
    ):
        # Hooks of the defense are set inside generate, after these, and so run after them:
        # the block after the edited one shows what it was given.
        vlm.generate(vlm.encode(batch), max_new_tokens=1)
    return torch.stack([seen[site] for site in sites])


def given(vlm: VLM, artifact: Artifact | None, batch: list[Any], **config: Any) -> torch.Tensor:
    """What the block after the edited one is given, B x L x d."""
    kept: list[torch.Tensor] = []

    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept.append((args[0] if args else kwargs["hidden_states"]).detach().clone())

    enabled = artifact is not None
    defense = load_defense("tool_vector", enabled=enabled, layer=LAYER, **config)
    with defense.apply(vlm, artifact):  # which may check the model first
        handle = vlm.layers[LAYER + 1].register_forward_pre_hook(hook, with_kwargs=True)
        try:
            vlm.generate(vlm.encode(batch), max_new_tokens=3)
        finally:
            handle.remove()
    return kept[0]


def test_the_shift_is_the_mean_of_paired_differences() -> None:
    vlm = tiny.vlm("llava")
    samples = [sample(i, "benign", picture=True) for i in range(4)]
    setup = vlm.tool_setup()
    direct, tool = (
        states_under(vlm, samples, name, setup, batch_size=3) for name in ("direct", "tool")
    )
    assert direct.shape == (vlm.num_layers, 4, vlm.hidden_size)
    inputs = vlm.encode([samples[1].messages()])
    expected = vlm.model(**inputs, output_hidden_states=True).hidden_states[LAYER + 1][0, -1]
    assert torch.allclose(direct[LAYER, 1], expected, atol=1e-4)
    report = shift_report({"direct": direct, "tool": tool}, None)
    norm = float((tool - direct)[LAYER].mean(dim=0).norm())
    assert report[LAYER]["tool_norm"] == pytest.approx(norm, abs=1e-4)
    assert "tool_refusal_cosine" not in report[LAYER]


def test_explained_and_split_half_tell_a_shift_from_noise() -> None:
    dice = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 64, 16, generator=dice)
    assert float(explained(noise)) < 0.1
    assert float(split_half(noise)) < 0.8
    shifted = noise * 0.1 + 1
    assert float(explained(shifted)) > 0.95
    assert float(split_half(shifted)) > 0.99


def test_it_is_added_at_the_last_prompt_token_only() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted()
    plain, moved = given(vlm, None, prompts()), given(vlm, artifact, prompts(), strength=0.5)
    assert torch.equal(moved[:, :-1], plain[:, :-1])
    shift = moved[:, -1] - plain[:, -1]
    assert torch.allclose(shift, 0.5 * artifact.tensors["tool"][LAYER].expand_as(shift), atol=1e-5)


def test_the_last_token_is_found_whichever_side_is_padded() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted()
    left = vlm.encode([tiny.ask("i bake"), tiny.ask("how to make a very large bomb")])
    mask = left["attention_mask"].flip(1)
    ids = torch.full_like(left["input_ids"], vlm.tokenizer.pad_token_id)
    for row in range(2):
        real = left["input_ids"][row][left["attention_mask"][row].bool()]
        ids[row, : len(real)] = real
    defense = load_defense("tool_vector", layer=LAYER)
    kept: list[torch.Tensor] = []
    hook = vlm.layers[LAYER + 1].register_forward_pre_hook(
        lambda _, args, kwargs: kept.append((args[0] if args else kwargs["hidden_states"]).clone()),
        with_kwargs=True,
    )
    try:
        for chosen in (load_defense("tool_vector", enabled=False), defense):
            with chosen.apply(vlm, artifact):
                vlm.generate({"input_ids": ids, "attention_mask": mask}, max_new_tokens=1)
    finally:
        hook.remove()
    changed = (kept[1] - kept[0]).abs().amax(dim=-1) > 0
    last = mask.sum(dim=1) - 1
    assert changed.nonzero().tolist() == [[0, int(last[0])], [1, int(last[1])]]


def test_ablation_moves_the_component_to_the_direct_level() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted()
    moved = given(vlm, artifact, prompts(), mode="ablate")[:, -1]
    axis = artifact.tensors["tool"][LAYER]
    axis = axis / axis.norm()
    level = artifact.tensors["direct"][LAYER] @ axis
    assert torch.allclose(moved @ axis, level.expand(len(moved)), atol=1e-4)
    plain = given(vlm, None, prompts())[:, -1]
    rest = [s - (s @ axis)[:, None] * axis for s in (plain, moved)]
    assert torch.allclose(rest[0], rest[1], atol=1e-4)


def test_controls_are_what_they_say() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted()
    plain = given(vlm, None, prompts())[:, -1]

    def shift(**config: Any) -> torch.Tensor:
        return (given(vlm, artifact, prompts(), **config)[:, -1] - plain)[0]

    tool = artifact.tensors["tool"][LAYER]
    random, again, other = (shift(vector="random", random_seed=seed) for seed in (1, 1, 2))
    assert float(random.norm()) == pytest.approx(float(tool.norm()), rel=1e-3)
    assert torch.equal(random, again)
    assert not torch.allclose(random, other, atol=1e-2)
    assert abs(float(torch.cosine_similarity(random, tool, dim=0))) < 0.6
    refusal = artifact.tensors["refusal"][LAYER]
    assert abs(float(shift(vector="orthogonal") @ refusal / refusal.norm())) < 1e-3
    assert torch.allclose(
        shift(vector="text_trace"), artifact.tensors["text_trace"][LAYER], atol=1e-4
    )


def test_onward_edits_every_later_block() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted()
    one, all_ = (states(vlm, artifact, prompts(), reach=r) for r in ("layer", "onward"))
    assert torch.equal(one[: LAYER + 1], all_[: LAYER + 1])
    kept = load_defense("tool_vector", layer=LAYER, reach="onward").build(vlm, artifact).around
    assert kept is not None
    changes = kept.args[1]  # type: ignore[attr-defined]
    assert list(changes) == list(range(LAYER, vlm.num_layers))


def test_it_works_under_the_tool() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted()
    with load_defense("image_tools").apply(vlm):
        tool = vlm.answer(prompts(), max_new_tokens=4)
        with load_defense("tool_vector", mode="ablate", reach="onward").apply(vlm, artifact):
            both = vlm.answer(prompts(), max_new_tokens=4)
            assert both == [vlm.answer([prompt], max_new_tokens=4)[0] for prompt in prompts()]
    assert both != tool


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        ([(2, 0.5, 0.0, 0.0), (3, 0.9, 0.02, 0.02), (4, 1.0, 0.5, 0.5)], 3),
        ([(2, 0.5, 0.4, 0.4), (3, 0.9, 0.3, 0.3)], 3),
        ([(2, 0.0, 0.0, 0.0), (4, 0.0, 0.0, 0.0), (6, 0.0, 0.0, 0.0)], 4),
    ],
)
def test_the_block_with_the_most_refusals_that_spares_benign_ones(trials: Any, best: int) -> None:
    assert _best([_Trial(*trial) for trial in trials], 0.02, 8) == best


def test_mathematics() -> None:
    vectors = torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    axis = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    assert torch.equal(orthogonal(vectors, axis), torch.tensor([[0.0, 4.0], [1.0, 0.0]]))
    half = ablated(torch.tensor([[4.0, 2.0]]), torch.tensor([1.0, 0.0]), 2.0, 0.5)
    assert torch.equal(half, torch.tensor([[3.0, 2.0]]))


def test_what_cannot_be_fitted_or_used_is_said() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted()
    no_pictures = [
        sample(i, label, picture=False) for i in range(4) for label in ("harmful", "benign")
    ]
    data = FitData(
        [s for s in no_pictures if s.label == "harmful"],
        [s for s in no_pictures if s.label == "benign"],
    )
    with pytest.raises(InputError, match="pictures"):
        load_defense("tool_vector").fit(vlm, data, progress=False)
    without = {k: v for k, v in artifact.tensors.items() if k != "refusal"}
    with pytest.raises(ArtifactError, match="refusal"):
        load_defense("tool_vector", vector="orthogonal").build(
            vlm, replace(artifact, tensors=without)
        )
    with pytest.raises(ArtifactError, match="block"):
        load_defense("tool_vector", layer=99).build(vlm, artifact)
    broken = {**artifact.tensors, "tool": artifact.tensors["tool"] * torch.nan}
    with pytest.raises(ArtifactError, match="tool"):
        load_defense("tool_vector").build(vlm, replace(artifact, tensors=broken))


def test_the_card_says_what_the_fit_saw_and_did_not() -> None:
    held_out = replace(fit_data(), held_out={"kind": ("a",)}, tasks=("image_harm",))
    data = load_defense("tool_vector").fit(tiny.vlm("llava"), held_out, progress=False).card["data"]
    assert (data["held_out"], data["tasks"]) == ({"kind": ["a"]}, ["image_harm"])


def test_the_card_reports_what_was_found() -> None:
    card = fitted().card
    assert len(card["shifts"]) == tiny.vlm("llava").num_layers
    assert {
        "tool_norm",
        "tool_split_half",
        "tool_explained",
        "tool_refusal_cosine",
        "text_trace_tool_cosine",
    } <= card["shifts"][0].keys()
    assert {trial["layer"] for trial in card["validation"]} == {1, 2, 3}
    assert isinstance(sample(0, "benign", picture=True), Sample)
