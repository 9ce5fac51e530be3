"""The fit of `tool_vector`: the shift at every block, and the block chosen by validation.

A quarter of the samples with pictures is held out; the shift is the mean over the rest. Each block
in the middle of the model is tried on the held-out samples by adding its shift to the direct
prompt. The block that refuses the most harmful samples wins, provided that benign refusals rise by
no more than allowed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safesight.activations import add, edit, resid_post
from safesight.activations.sites import check_layer
from safesight.defenses.shared.judging import judge_for_fit
from safesight.defenses.shared.refusals_seen import warn_unseen
from safesight.defenses.tool_vector.states import refusal_vectors, shift_report, states_under
from safesight.errors import InputError
from safesight.fitting.artifact import Artifact
from safesight.fitting.provenance import check_untouched, provenance
from safesight.generation.calls import short_answer, undefended
from safesight.models.asking import by_batches, encode_asked
from safesight.types import Judge, Sample

if TYPE_CHECKING:
    from safesight.defenses.tool_vector.config import ToolVectorConfig
    from safesight.fitting.data import FitData
    from safesight.models import VLM

__all__ = ["candidate_layers", "fit_tool_vector"]

_CONDITIONS = ("direct", "tool", "text_trace", "crop_no_call")


@dataclass(frozen=True)
class _Trial:
    """The results of one block on the held-out samples."""

    layer: int
    harmful: float
    """Share of harmful samples refused."""
    benign: float
    rise: float
    """Rise in benign refusals over the unchanged model."""


def fit_tool_vector(
    name: str,
    vlm: VLM,
    data: FitData,
    config: ToolVectorConfig,
    *,
    seed: int,
    progress: bool,
) -> Artifact:
    """Fit the tool vector; see `ToolVector.fit`."""
    check_untouched(vlm)
    layers = candidate_layers(vlm.num_layers)
    if config.layer is not None:
        check_layer(vlm.layers, config.layer)
        layers = [config.layer]
    fitted, held_out = _split(data, config, seed)
    setup, batch = vlm.tool_setup(), config.batch_size
    states = {
        each: states_under(vlm, fitted, each, setup, batch_size=batch, progress=progress)
        for each in _CONDITIONS
    }
    refusal = _refusal(vlm, data, batch, progress)
    vectors = {
        each: (under - states["direct"]).mean(dim=1)
        for each, under in states.items()
        if each != "direct"
    }
    trials = [] if config.layer is not None else _trials(vlm, vectors["tool"], held_out, config)
    layer = layers[0] if not trials else _best(trials, config.max_rise, vlm.num_layers)
    tensors = {**vectors, "direct": states["direct"].mean(dim=1)}
    if refusal is not None:
        tensors["refusal"] = refusal
    card = {
        "shifts": shift_report(states, refusal),
        "validation": [vars(trial) for trial in trials],
        "refusals_seen": any(trial.harmful for trial in trials) if trials else None,
        "fitted_on": len(fitted),
        "held_out": len(held_out),
        **provenance(vlm, data, seed),
    }
    return Artifact(name, config.model_dump(mode="json"), {"layer": layer}, tensors, card)


def candidate_layers(num_layers: int) -> list[int]:
    """The blocks at 0.3 to 0.8 of the depth.

    Example:
        >>> candidate_layers(8)
        [2, 3, 4, 5, 6]
    """
    return list(range(round(0.3 * num_layers), min(round(0.8 * num_layers), num_layers - 1) + 1))


def _split(data: FitData, config: ToolVectorConfig, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Samples with pictures: those averaged into the shift, and those that choose the block."""
    rng = random.Random(seed)
    fitted: list[Sample] = []
    held_out: list[Sample] = []
    for label, samples in (("harmful", data.harmful), ("benign", data.benign)):
        shown = [sample for sample in samples if sample.image is not None]
        rng.shuffle(shown)
        cut = max(1, round(config.validation * len(shown)))
        held_out += shown[:cut]
        if config.pairs in ("all", label):
            fitted += shown[cut:]
    labels = {sample.label for sample in held_out}
    if len(fitted) < 2 or (config.layer is None and len(labels) < 2):
        raise InputError(
            f"A tool vector needs samples with pictures: two to fit it and one of each label to "
            f"choose the block, but there are {len(fitted)} and {len(held_out)}. Add samples."
        )
    rng.shuffle(fitted)  # so that each half has both labels
    return fitted, held_out


def _refusal(vlm: VLM, data: FitData, batch: int, progress: bool) -> Tensor | None:
    """The refusal vector from text-only requests, or None if either label has none."""
    harmful, benign = (
        [sample for sample in samples if sample.image is None]
        for samples in (data.harmful, data.benign)
    )
    if not harmful or not benign:
        return None
    setup = vlm.tool_setup()
    one, two = (
        states_under(vlm, samples, "direct", setup, batch_size=batch, progress=progress)
        for samples in (harmful, benign)
    )
    return refusal_vectors(one, two)


def _trials(
    vlm: VLM, vectors: Tensor, held_out: Sequence[Sample], config: ToolVectorConfig
) -> list[_Trial]:
    harmful = [sample for sample in held_out if sample.label == "harmful"]
    benign = [sample for sample in held_out if sample.label == "benign"]
    judge = judge_for_fit(config.judge, vlm, held_out)
    refused = partial(_refused, vlm, judge, config)
    before = refused(benign, None)
    found = []
    for layer in candidate_layers(vlm.num_layers):
        at = (layer, vectors[layer])
        after = refused(benign, at)
        found.append(_Trial(layer, refused(harmful, at), after, after - before))
    if not any(trial.harmful for trial in found):
        warn_unseen(len(harmful), f"block {_best(found, config.max_rise, vlm.num_layers)}")
    return found


def _best(trials: Sequence[_Trial], max_rise: float, num_layers: int) -> int:
    """Most refusals among allowed blocks, or else the smallest rise; ties go to the middle."""
    allowed = [trial for trial in trials if trial.rise <= max_rise + 1e-9]

    def merit(trial: _Trial) -> tuple[float, float, float]:
        middle = -abs(trial.layer - num_layers / 2)
        if allowed:
            return trial.harmful, -trial.rise, middle
        return -trial.rise, trial.harmful, middle

    return max(allowed or trials, key=merit).layer


def _refused(
    vlm: VLM,
    judge: Judge,
    config: ToolVectorConfig,
    samples: Sequence[Sample],
    at: tuple[int, Tensor] | None,
) -> float:
    """The share of samples that the undefended model refuses, with or without a vector added."""
    edits = {} if at is None else {resid_post(at[0]): add(at[1], config.strength, tokens="last")}

    def refusals(batch: Sequence[Sample]) -> int:
        inputs = encode_asked(vlm, batch)
        with torch.no_grad(), edit(vlm.layers, edits, prefill_only=True):
            sequences = undefended(vlm)(**inputs, **short_answer(vlm, config.answer_tokens))
        texts = vlm.decode(sequences, inputs["input_ids"].shape[1])
        return sum(judge(text, s) == "refused" for text, s in zip(texts, batch, strict=True))

    return sum(by_batches(samples, config.batch_size, refusals)) / len(samples)
