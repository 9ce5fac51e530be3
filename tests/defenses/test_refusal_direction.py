"""The refusal direction: the edit by hand, the vector and layer a fit finds, the gate."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from safesight.activations import threshold_at_fpr, unit
from safesight.defenses import Artifact, FitData
from safesight.defenses.baselines.refusal_direction import (
    RefusalDirection,
    _added,
    best_layer,
    pushed,
)
from safesight.errors import ArtifactError, InputError
from safesight.generation.last_token import states_of
from safesight.models import VLM
from tests import tiny
from tests.contracts.defense_helpers import answers, fit_data, fitted, prompts


def test_the_edit_by_hand() -> None:
    states, vector = torch.tensor([[3.0, 4.0], [0.0, 4.0]]), torch.tensor([2.0, 0.0])
    assert pushed(states, vector, 0.5, None).tolist() == [[4.0, 4.0], [1.0, 4.0]]
    # Projections on (1, 0) are 3 and 0.
    assert pushed(states, vector, 0.5, 3.0).tolist() == [[4.0, 4.0], [0.0, 4.0]]
    assert pushed(states, vector, 0.5, 3.1).tolist() == states.tolist()


def means(vlm: VLM, label: str) -> Tensor:
    samples = fit_data().harmful if label == "harmful" else fit_data().benign
    texts = [each.messages() for each in samples if each.image is None]
    assert 0 < len(texts) < len(samples)
    inputs = vlm.encode(texts)
    with torch.no_grad():
        hidden = vlm.model(**inputs, output_hidden_states=True).hidden_states
    return torch.stack([state[:, -1].mean(0) for state in hidden[1:]])


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_the_vector_is_the_difference_of_means_of_text_prompts(family: str) -> None:
    vlm = tiny.vlm(family)
    shift = means(vlm, "harmful") - means(vlm, "benign")
    for layer in (0, 2):
        artifact = RefusalDirection(layer=layer).fit(vlm, fit_data(), progress=False)
        assert artifact.fitted["layer"] == layer
        assert torch.allclose(artifact.tensors["vector"], shift[layer], atol=1e-3)


def test_the_layer_is_chosen_by_its_effect() -> None:
    artifact = fitted("refusal_direction", "llava")
    effects = artifact.card["effects"]
    assert len(effects) == 4
    assert artifact.fitted["layer"] == best_layer(effects)
    assert len({round(effect, 2) for effect in effects}) > 1, "a tie would not show a choice"


def test_of_equals_the_latest_layer_but_none_of_the_last_fifth() -> None:
    assert best_layer([0.1, 0.999, 0.5, 0.9]) == 1
    assert best_layer([0.998, 0.999, 0.997, 0.3]) == 2
    assert best_layer([0.1] * 8 + [0.9, 0.9]) == 7


def test_the_effects_are_what_the_edit_does() -> None:
    """On the pictures of the fit, with the defense attached and not by the fit's own means."""
    vlm = tiny.vlm("llava")
    artifact = RefusalDirection(layer=1).fit(vlm, fit_data(), progress=False)
    trial = [each.messages() for each in fit_data().harmful if each.image is not None]
    with RefusalDirection().apply(vlm, artifact):
        output = vlm.generate(
            vlm.encode(trial), max_new_tokens=1, return_dict_in_generate=True, output_logits=True
        )
    mass = output.logits[0].softmax(-1)[:, artifact.card["refusal_tokens"]].sum(-1).mean()
    assert float(mass) == pytest.approx(artifact.card["effects"][1], abs=1e-3)


def test_strength() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("refusal_direction", "llava")
    plain = answers(vlm, prompts())
    with RefusalDirection(strength=0.0).apply(vlm, artifact):
        assert answers(vlm, prompts()) == plain
    with RefusalDirection(strength=5.0).apply(vlm, artifact):
        assert answers(vlm, prompts()) != plain


def gated(artifact: Artifact, threshold: float | None) -> Artifact:
    return replace(artifact, fitted={**artifact.fitted, "gate_threshold": threshold})


def test_the_gate_opens_row_by_row() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("refusal_direction", "llava")
    layer, vector = artifact.fitted["layer"], artifact.tensors["vector"]
    states = states_of(vlm, prompts(), [layer], batch_size=4, label="", progress=False)[:, 0]
    projections = states @ unit(vector)
    middle = float(projections.sort().values[1:3].mean())
    plain = answers(vlm, prompts())
    with RefusalDirection(strength=5.0).apply(vlm, artifact):
        always = answers(vlm, prompts())
    with RefusalDirection(strength=5.0, gate="projection").apply(vlm, gated(artifact, middle)):
        found = answers(vlm, prompts())
        uncached = answers(vlm, prompts(), use_cache=False)
    above = (projections >= middle).tolist()
    assert sum(above) == 2
    expected = [always[i] if above[i] else plain[i] for i in range(len(above))]
    assert found == expected == uncached
    assert found not in (plain, always)


def test_the_gate_has_the_stated_false_positive_rate() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("refusal_direction", "llava")
    benign = [each.messages() for each in fit_data().calibration_benign]
    layer, vector = artifact.fitted["layer"], artifact.tensors["vector"]
    states = states_of(vlm, benign, [layer], batch_size=16, label="", progress=False)[:, 0]
    expected = threshold_at_fpr(states @ unit(vector), 0.01)
    assert artifact.fitted["gate_threshold"] == pytest.approx(expected.value, abs=1e-4)
    assert artifact.card["calibration"]["max_fpr"] == 0.01
    assert artifact.card["calibration"]["n"] == len(benign)


def test_a_gate_needs_calibration() -> None:
    vlm = tiny.vlm("llava")
    data = replace(fit_data(), calibration_benign=())
    artifact = RefusalDirection().fit(vlm, data, progress=False)
    with RefusalDirection().apply(vlm, artifact):
        answers(vlm, prompts())
    with pytest.raises(ArtifactError, match="held-out benign"):
        RefusalDirection(gate="projection").apply(vlm, artifact).__enter__()


def test_text_prompts_of_both_kinds_are_needed() -> None:
    pictured = [each for each in fit_data().harmful if each.image is not None]
    with pytest.raises(InputError, match="0 harmful"):
        RefusalDirection().fit(
            tiny.vlm("llava"), FitData(pictured, fit_data().benign), progress=False
        )
    with pytest.raises(InputError, match="4 decoder blocks"):
        RefusalDirection(layer=4).fit(tiny.vlm("llava"), fit_data(), progress=False)


@pytest.mark.parametrize(
    ("part", "value"),
    [("layer", 4), ("layer", None), ("layer", True), ("gate_threshold", "1")],
)
def test_artifacts_that_cannot_be(part: str, value: object) -> None:
    artifact = fitted("refusal_direction", "llava")
    bad = replace(artifact, fitted={**artifact.fitted, part: value})
    with pytest.raises(ArtifactError, match="again"):
        RefusalDirection().apply(tiny.vlm("llava"), bad).__enter__()


@pytest.mark.parametrize(
    "vector", [None, torch.zeros(3), torch.zeros(32), torch.full((32,), torch.nan)]
)
def test_vectors_that_cannot_be(vector: Tensor | None) -> None:
    artifact = fitted("refusal_direction", "llava")
    tensors = {} if vector is None else {"vector": vector}
    with pytest.raises(ArtifactError, match="again"):
        RefusalDirection().apply(tiny.vlm("llava"), replace(artifact, tensors=tensors)).__enter__()


def test_a_vector_goes_where_its_block_is() -> None:
    """Blocks of one model may be on several devices; "meta" is one that every machine has."""
    assert _added(torch.ones(4), torch.zeros(2, 4, device="meta")).device.type == "meta"
