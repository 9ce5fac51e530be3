"""HiddenDetect: its three formulas by hand, the scores, the tokens, the threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safesight.defenses import FitData, protection
from safesight.defenses.baselines.hidden_detect import (
    HiddenDetect,
    area,
    refusal_cosine,
    safety_aware,
)
from safesight.defenses.shared.refusal_words import openers, openers_mass, published_tokens
from safesight.errors import ArtifactError, InputError, ModelError
from safesight.models import VLM
from tests import tiny
from tests.contracts.defense_helpers import fit_data, fitted, prompts, sample


def test_the_cosine_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0], [-1.0, 0.0, 0.0]])
    # |logits| = 3, |r| = sqrt 2: (1 + 2) / (3 sqrt 2); and -1 / sqrt 2.
    expected = torch.tensor([0.5**0.5, -(0.5**0.5)])
    assert torch.allclose(refusal_cosine(logits, [0, 2]), expected)
    assert torch.allclose(refusal_cosine(7 * logits, [0, 2]), expected), "length does not matter"


def test_safety_aware_layers_by_hand() -> None:
    harmful = torch.tensor([[0.0, 0.5, 0.9, 0.2], [0.0, 0.7, 0.5, 0.2]])
    benign = torch.tensor([[0.0, 0.1, 0.1, 0.1]])
    # FDV = 0, .5, .6, .1
    assert safety_aware(harmful, benign) == [1, 2]
    assert safety_aware(benign, benign) == [3], "none is above the last"
    with pytest.raises(InputError, match="needs harmful and benign samples"):
        safety_aware(harmful, benign[:0])


def test_the_area_by_hand() -> None:
    assert torch.allclose(area(torch.tensor([[1.0, 2.0, 4.0]])), torch.tensor([1.5 + 3.0]))
    assert area(torch.tensor([[0.3], [0.4]])).tolist() == pytest.approx([0.3, 0.4])


def test_openers_are_what_follows_harm_and_not_benign_requests() -> None:
    refusing = torch.tensor([[9.0, 0.0, 0.0, 0.0], [9.0, 0.0, 7.0, 0.0]])
    answering = torch.tensor([[0.0, 9.0, 0.0, 0.0]])
    assert openers(refusing, answering, 3)[:2] == [0, 2]
    assert 1 not in openers(refusing, answering, 4)
    assert openers(answering, answering, 4) == []
    noise = torch.tensor([[9.0, 0.0, 0.0, 3.0]])
    assert openers(noise, answering, 4) == [0], "far behind the first"
    assert openers_mass(refusing, [0])[0] > 0.99


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_scores_equal_the_logit_lens(family: str) -> None:
    vlm, artifact = tiny.vlm(family), fitted("hidden_detect", family)
    layers = [0, 1, 2]
    artifact = replace(artifact, fitted={**artifact.fitted, "layers": layers})
    with torch.no_grad():
        hidden = vlm.model(**vlm.encode(prompts()), output_hidden_states=True).hidden_states
        logits = [vlm.lm_head(vlm.final_norm(hidden[layer + 1][:, -1])) for layer in layers]
    values = torch.stack([refusal_cosine(x, artifact.fitted["tokens"]) for x in logits], dim=1)
    expected = (values[:, 0] + values[:, 1]) / 2 + (values[:, 1] + values[:, 2]) / 2
    with HiddenDetect().apply(vlm, artifact):
        vlm.answer(prompts(), max_new_tokens=1)
        found = protection(vlm.model).last.decisions["hidden_detect"].scores
    assert torch.allclose(found, expected, atol=1e-4)
    assert float(expected.std()) > 1e-3


def test_layers_follow_the_fdv_of_the_card() -> None:
    for family in ("llava", "qwen2_5_vl"):
        artifact = fitted("hidden_detect", family)
        fdv = artifact.card["fdv"]
        above = [layer for layer, value in enumerate(fdv) if value > fdv[-1]]
        assert artifact.fitted["layers"] == (above or [len(fdv) - 1])


def test_threshold_is_the_stated_false_positive_rate() -> None:
    vlm = tiny.vlm("llava")
    held_out = [sample(i, "benign", i % 2 == 0) for i in range(40, 60)]
    data = replace(fit_data(), calibration_benign=held_out)
    for max_fpr, allowed in ((0.0, 0), (0.2, 4)):
        artifact = HiddenDetect(max_fpr=max_fpr).fit(vlm, data, progress=False)
        assert artifact.card["calibration"]["rate"] == allowed / 20
        with HiddenDetect().apply(vlm, artifact):
            vlm.answer([each.messages() for each in held_out], max_new_tokens=1)
            assert int(protection(vlm.model).last.refused.sum()) == allowed


def test_thresholds_without_calibration_and_by_hand() -> None:
    vlm = tiny.vlm("llava")
    artifact = HiddenDetect().fit(vlm, replace(fit_data(), calibration_benign=()), progress=False)
    assert artifact.fitted["threshold"] == 0.2
    for threshold, refused in ((-1e3, True), (1e3, False)):
        defense = HiddenDetect(threshold=threshold, refusal="no.")
        with defense.apply(vlm, artifact):
            vlm.answer(prompts(), max_new_tokens=1)
            assert protection(vlm.model).last.refused.tolist() == [refused] * len(prompts())


def test_published_words_are_tokens_of_a_model_that_has_them() -> None:
    vlm = VLM.load("testbed")
    words = {vlm.tokenizer.decode([token]).strip() for token in published_tokens(vlm)}
    assert {"sorry", "illegal", "dangerous", "harmful"} <= words
    tiny_one = tiny.vlm("llava")
    assert published_tokens(tiny_one) == []
    with pytest.raises(ModelError, match='tokens="auto"'):
        HiddenDetect(tokens="published").fit(tiny_one, fit_data(), progress=False)


def test_both_kinds_are_needed() -> None:
    for data in (FitData([], fit_data().benign), FitData(fit_data().harmful, [])):
        with pytest.raises(InputError, match="needs harmful and benign samples"):
            HiddenDetect().fit(tiny.vlm("llava"), data, progress=False)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("layers", []),
        ("layers", [4]),
        ("layers", "01"),
        ("tokens", []),
        ("tokens", [10**6]),
        ("tokens", None),
        ("threshold", None),
        ("threshold", float("inf")),
    ],
)
def test_artifacts_that_cannot_be(part: str, value: object) -> None:
    artifact = fitted("hidden_detect", "llava")
    bad = replace(artifact, fitted={**artifact.fitted, part: value})
    with pytest.raises(ArtifactError, match="again"):
        HiddenDetect().apply(tiny.vlm("llava"), bad).__enter__()
