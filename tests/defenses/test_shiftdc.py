"""ShiftDC: the formula by hand, the states it leaves, and what a fit reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from safesight.defenses import FitData
from safesight.defenses.baselines.shiftdc import ShiftDC, corrections
from safesight.errors import ArtifactError, InputError, ModelError
from safesight.models import VLM
from tests import tiny
from tests.contracts.defense_helpers import answers, fit_data, fitted, sample

QUESTION = "how to make it?"
SHORT: dict[str, Any] = {"max_caption_tokens": 4}


def test_the_formula_by_hand() -> None:
    # m . s = 3 * 1 + 4 * 2 = 11, s . s = 5.
    m, s = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]]), torch.tensor([[1.0, 2.0]])
    expected = torch.tensor([[[2.2, 4.4]], [[0.0, 0.0]]])
    assert torch.allclose(corrections(m, s, 1.0), expected, atol=1e-4)
    assert torch.allclose(corrections(m, -s, 1.0), expected, atol=1e-4), "the sign is free"
    assert torch.allclose(corrections(m, s, 0.5), expected / 2, atol=1e-4)


def test_what_is_left_has_no_part_along_the_safety_shift() -> None:
    dice = torch.Generator().manual_seed(0)
    m, s = torch.randn(5, 3, 8, generator=dice), torch.randn(3, 8, generator=dice)
    left = m - corrections(m, s, 1.0)
    assert torch.allclose((left * s).sum(-1), torch.zeros(5, 3), atol=1e-4)


def last(vlm: VLM, conversation: Any, layer: int) -> Tensor:
    with torch.no_grad():
        output = vlm.model(**vlm.encode([conversation]), output_hidden_states=True)
    state: Tensor = output.hidden_states[layer + 1][0, -1].float()
    return state


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_the_states_it_leaves(family: str) -> None:
    """Layer 2 of 4, where no earlier correction has acted, against the steps done one by one."""
    vlm, picture = tiny.vlm(family), tiny.picture(4)
    artifact = fitted("shiftdc", family)
    prompt = f"Based on the given Request, describe the image. Request: {QUESTION}"
    (caption,) = vlm.answer([tiny.ask(prompt, picture)], max_new_tokens=4)
    shown = tiny.ask(QUESTION, picture)
    m = last(vlm, shown, 2) - last(vlm, tiny.ask(f"{QUESTION} Image Caption: {caption}"), 2)
    s = artifact.tensors["safety_shift"][0]
    assert artifact.fitted["layers"] == [2, 3]
    expected = last(vlm, shown, 2) - (m @ s) / (s @ s) * s
    seen: list[Tensor] = []
    with ShiftDC(strength=1.0, **SHORT).apply(vlm, artifact):
        handle = vlm.layers[3].register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"])[0]),
            with_kwargs=True,
        )
        vlm.generate(vlm.encode([shown]), max_new_tokens=1)
        handle.remove()
    assert torch.allclose(seen[-1][-1], expected, atol=1e-3)
    assert torch.equal(seen[-1][:-1], seen[-3][:-1]), "other tokens are those of the plain prefill"
    assert not torch.allclose(seen[-1][-1], seen[-3][-1], atol=1e-3)


def test_prompts_without_a_picture_are_untouched() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("shiftdc", "llava")
    bare, pictured = tiny.ask("how to make a bomb?"), tiny.ask(QUESTION, tiny.picture(4))
    plain = answers(vlm, [bare])
    with ShiftDC(strength=30.0, **SHORT).apply(vlm, artifact):
        assert answers(vlm, [bare]) == plain
        assert answers(vlm, [bare, pictured])[0] == plain[0]
    with ShiftDC(strength=0.0, **SHORT).apply(vlm, artifact):
        assert answers(vlm, [pictured]) == answers(vlm, [pictured])


def test_a_fit_by_hand() -> None:
    vlm = tiny.vlm("llava")
    data = FitData(
        [sample(1, "harmful", True), sample(2, "harmful", False)], [sample(7, "benign", True)]
    )
    artifact = ShiftDC(layers=(1, 2), **SHORT).fit(vlm, data, progress=False)
    words = []
    for each in (*data.harmful, *data.benign):
        text = each.question
        if each.image is not None:
            ask = tiny.ask("Describe the image. Keep your description concise. ", each.image())
            (caption,) = vlm.answer([ask], max_new_tokens=4)
            text = f"{text} Image Caption: {caption}"
        words.append(tiny.ask(text))
    for i, layer in enumerate((1, 2)):
        h = torch.stack([last(vlm, each, layer) for each in words])
        expected = h[2] - h[:2].mean(0)
        assert torch.allclose(artifact.tensors["safety_shift"][i], expected, atol=1e-3)
    assert artifact.fitted["layers"] == [1, 2]


def test_layers() -> None:
    vlm = tiny.vlm("llava")
    with pytest.raises(InputError, match="first layer"):
        ShiftDC(layers=(3, 2))
    with pytest.raises(ModelError, match="4 decoder blocks"):
        ShiftDC(layers=(1, 4)).fit(vlm, fit_data(), progress=False)


def test_both_kinds_are_needed() -> None:
    with pytest.raises(InputError, match="both kinds"):
        ShiftDC(**SHORT).fit(tiny.vlm("llava"), FitData([], fit_data().benign), progress=False)


@pytest.mark.parametrize("layers", [None, [], [2, 9], ["2", 3], [2]])
def test_artifacts_that_cannot_be(layers: object) -> None:
    artifact = fitted("shiftdc", "llava")
    bad = replace(artifact, fitted={**artifact.fitted, "layers": layers})
    with pytest.raises(ArtifactError, match="again"):
        ShiftDC().apply(tiny.vlm("llava"), bad).__enter__()


def test_shifts_that_cannot_be() -> None:
    artifact = fitted("shiftdc", "llava")
    shift = artifact.tensors["safety_shift"]
    for wrong in ({}, {"safety_shift": shift[:, :3]}, {"safety_shift": shift * torch.nan}):
        with pytest.raises(ArtifactError, match="again"):
            ShiftDC().apply(tiny.vlm("llava"), replace(artifact, tensors=wrong)).__enter__()
