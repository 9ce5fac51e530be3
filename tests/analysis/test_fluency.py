"""How likely an answer is to a model, and the threshold from which it counts as broken."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from safesight import VLM, registry
from safesight.analysis.fluency import best_threshold, mean_nll
from tests.contracts import defense_helpers as helpers


def test_debris_is_unlikely_and_batches_change_nothing() -> None:
    vlm = VLM.load("testbed")
    samples = registry.load("benchmark", "over_refusal")(4, split="calibration")
    right = [(sample.facts["answer"], sample) for sample in samples]
    wrong = [(f"bottom {answer} not not", sample) for answer, sample in right]
    good, bad = mean_nll(vlm, right), mean_nll(vlm, wrong)
    assert max(good) < 1 < min(bad)
    assert mean_nll(vlm, right, batch_size=1) == pytest.approx(good, abs=1e-4)
    assert mean_nll(vlm, [("", samples[0])]) == [math.inf]


@pytest.mark.parametrize("talk", [False, True])
def test_it_is_what_transformers_computes(talk: bool) -> None:
    vlm = VLM.load("testbed")
    sample = registry.load("benchmark", "image_harm")(1)[0]
    if talk:  # with all its turns and pictures
        turns = helpers.talk(sample.question, {"type": "image"})
        more = registry.load("benchmark", "vqa")(1)[0].image
        sample = replace(sample, turns=turns, further_images=(more,), system="be kind")
    answer = "i cannot help with that."
    turns = [
        *sample.messages(),
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]
    whole = vlm.encode([turns], add_generation_prompt=False)
    labels = whole["input_ids"].clone()
    labels[:, : vlm.encode([sample.messages()])["input_ids"].shape[1]] = -100
    with torch.no_grad():
        loss = vlm.model(**whole, labels=labels).loss
    assert mean_nll(vlm, [(answer, sample)]) == pytest.approx([float(loss)], abs=1e-4)


@pytest.mark.parametrize(
    ("values", "broken", "threshold"),
    [
        ([0.1, 0.2, 3.0, 0.3, 2.0], [False, False, True, False, True], 2.0),
        ([0.1, 5.0, 3.0, 2.0], [False, False, True, True], 2.0),
        ([1.0, 1.0, 2.0], [False, True, True], 2.0),
        ([0.5, math.inf], [False, True], math.inf),
    ],
)
def test_a_threshold_separates_best(
    values: list[float], broken: list[bool], threshold: float
) -> None:
    assert best_threshold(values, broken) == threshold
