"""The reference in an artifact's card: what another engine is compared with."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from safesight.activations import capture, resid_post
from safesight.defenses import Artifact, load_defense
from safesight.defenses.reference import with_reference
from safesight.fitting.bundled import bundled
from safesight.fitting.reference import KEY, Reference, conversations, relative_error
from safesight.models import VLM


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return VLM.load("testbed")


@pytest.fixture(scope="module")
def referenced(vlm: VLM) -> Artifact:
    return with_reference(vlm, load_defense("probe"), bundled("probe", vlm))


def states(vlm: VLM, index: int) -> torch.Tensor:
    sites = [resid_post(layer) for layer in range(vlm.num_layers)]
    inputs = vlm.encode([conversations()[index][1]])
    with torch.no_grad(), capture(vlm.layers, sites, "last") as found:
        vlm.model(**inputs)
    return torch.stack([found[site][0] for site in sites])


def test_it_survives_saving_and_changes_no_answer(vlm, referenced, tmp_path) -> None:
    loaded = Artifact.load(referenced.save(tmp_path / "probe"))
    assert loaded.hash == bundled("probe", vlm).hash
    assert Reference.of(loaded.card) == Reference.of(referenced.card)
    with load_defense("probe").apply(vlm, loaded):
        assert vlm.answer([conversations()[0][1]])


def test_the_same_model_is_near_and_another_far(vlm, referenced) -> None:
    prompts = Reference.of(referenced.card).prompts
    for index, prompt in enumerate(prompts):
        own = states(vlm, index)
        assert relative_error(own, prompt).max() < 1e-4
        off = own * 1.2
        assert ((relative_error(off, prompt) - 0.2).abs() < 0.1).all()
        assert relative_error(own[:-1], prompt).isinf().all()
    other = states(vlm, 1)
    assert relative_error(other, prompts[0]).max() > 0.3


def test_a_detector_s_verdicts_are_in_it(vlm, referenced) -> None:
    for (_, messages), prompt in zip(
        conversations(), Reference.of(referenced.card).prompts, strict=True
    ):
        with load_defense("probe").apply(vlm, referenced):
            answer = vlm.answer([messages])[0]
        refusal = load_defense("probe").settings(referenced).refusal
        assert prompt.refused == (answer == refusal)
        assert prompt.score is not None


@pytest.mark.parametrize("damage", ["missing", "extra", "words"])
def test_what_cannot_be_read_is_no_reference(referenced, damage) -> None:
    card = json.loads(json.dumps(referenced.card))
    if damage == "missing":
        del card[KEY]["prompts"][0]["tokens"]
    elif damage == "extra":
        card[KEY]["more"] = 1
    else:
        card[KEY] = "none"
    assert Reference.of(replace(referenced, card=card).card) is None
