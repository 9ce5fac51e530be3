"""Refusal direction: adds to each prompt the vector that makes the model refuse text prompts.

Paper: Arditi et al., "Refusal in Language Models Is Mediated by a Single Direction",
NeurIPS 2024, https://arxiv.org/abs/2406.11717. Its claim, for language models: adding the
difference of means of harmful and benign prompts at one layer makes the model refuse anything,
and ablating it makes the model refuse nothing. As a defense it is the simplest activation edit,
and any other must beat it.

Where it acts: on the state h of the last prompt token after one block l, once, in the prefill:

    v_l = mean h_l(harmful, text only) - mean h_l(benign, text only)
    h_l <- h_l + strength v_l

always, or with `gate="projection"` only where h_l . v_l / |v_l| reaches a threshold.

What is fitted: v_l for every block, from text prompts only; then l, the block at which adding v_l
makes the words that begin the model's refusals most likely. It is chosen on prompts not used for
v_l: harmful ones with a picture, or benign ones if there are none. Ties go to the
latest block, and the last fifth is excluded. The gate's threshold is set on held-out benign
prompts. Cost: one prefill per prompt, and one per block on up to `trial` prompts.

What it cannot do: without the gate it makes the model refuse benign prompts as readily as harmful
ones. With the gate it is a linear detector, no better than the projection separates.

Where we differ: we add it only at the last prompt token of the prefill, where the paper adds it at
every token (on small models that garbles the answer); we choose one block by its effect on held-out
prompts, where the paper searches blocks and token positions by three scores; the gate is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from safesight.activations import difference_of_means, threshold_at_fpr, unit
from safesight.defenses.base import Defense, DefenseConfig, Parts, Stored
from safesight.defenses.contract import Contract
from safesight.defenses.shared.refusal_words import in_text, openers, openers_mass
from safesight.defenses.shared.refusals_seen import refusals_seen
from safesight.errors import ArtifactError, InputError
from safesight.fitting.artifact import Artifact
from safesight.fitting.provenance import provenance
from safesight.generation.calls import check_supported
from safesight.generation.edits import LastTokenEdit
from safesight.generation.last_token import at_last, last_states, states_of_samples
from safesight.models.asking import by_batches, encode_asked
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.fitting.data import FitData
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["RefusalDirection", "RefusalDirectionConfig", "best_layer", "pushed"]


class RefusalDirectionConfig(DefenseConfig):
    """Settings of the refusal direction."""

    at_use: ClassVar[frozenset[str]] = frozenset({"enabled", "strength", "gate", "batch_size"})

    strength: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Multiplier of the difference of means; 0 adds nothing. Source: paper."""
    gate: Literal["always", "projection"] = "always"
    """Add on every prompt, or only where the state lies far enough along the direction.
    Source: paper for "always", which is its intervention."""
    layer: int | None = Field(None, ge=0)
    """The decoder block; None lets the fit choose. Source: ours."""
    max_fpr: float = Field(0.01, ge=0, lt=1)
    """Maximum share of held-out benign prompts that the gate edits. Source: ours."""
    trial: int = Field(64, ge=1)
    """Maximum number of prompts used to choose the layer. Source: ours."""
    own_tokens: int = Field(5, ge=1, le=100)
    """Maximum number of refusal-opening words to watch. Source: ours."""
    batch_size: int = Field(16, ge=1)
    """Prompts per forward pass during a fit. Source: ours."""


def pushed(states: Tensor, vector: Tensor, strength: float, threshold: float | None) -> Tensor:
    """The edited states: h + strength v where h . v / |v| reaches the threshold, else h.

    Args:
        states: h, R x d, float32.
        vector: v, d.
        strength: Multiplier of v.
        threshold: For the projection on v; None moves every row.

    Returns:
        R x d; rows below the threshold are unchanged, bit for bit.

    Example:
        >>> pushed(torch.tensor([[5.0, 0.0], [1.0, 0.0]]), torch.tensor([2.0, 0.0]), 1.0, 3.0)
        tensor([[7., 0.],
                [1., 0.]])
    """
    moved = states + strength * vector
    if threshold is None:
        return moved
    return torch.where((states @ unit(vector) >= threshold)[:, None], moved, states)


@dataclass(frozen=True)
class RefusalDirectionFitted:
    """What a fit of the refusal direction found."""

    layer: int
    vector: Tensor
    """v at that block, d."""
    threshold: float | None
    """The gate's threshold; None adds the vector on every prompt."""


@final
class RefusalDirection(Defense[RefusalDirectionConfig, RefusalDirectionFitted]):
    """Adds the refusal direction at the last prompt token."""

    name = "refusal_direction"
    kind = "activation"
    paper = (
        "Arditi et al., Refusal in Language Models Is Mediated by a Single Direction, "
        "NeurIPS 2024, https://arxiv.org/abs/2406.11717"
    )
    needs = frozenset({"activations", "labels"})
    fitted = True
    in_demo = True
    # At exactly zero it runs nothing; this push is too small to change any float.
    contract = Contract(zero={"strength": 1e-30})
    Config = RefusalDirectionConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Fit the vector of one block, chosen by its effect; the model is not changed.

        Raises:
            InputError: there are no harmful or no benign text prompts, or no such layer.
        """
        config = self.config
        if config.layer is not None and config.layer >= vlm.num_layers:
            raise InputError(
                f"Layer {config.layer} does not exist: this model has {vlm.num_layers} decoder "
                f"blocks. Choose a layer from 0 to {vlm.num_layers - 1}."
            )
        kinds = ("harmful", in_text(data.harmful)), ("benign", in_text(data.benign))
        harmful, benign = (
            states_of_samples(vlm, samples, config.batch_size, label, progress)
            for label, samples in kinds
        )
        if not len(harmful) or not len(benign):
            raise InputError(
                f"A refusal direction needs prompts without pictures, but there are {len(harmful)} "
                f"harmful and {len(benign)} benign ones. Add a text task to the fit."
            )
        vectors = torch.stack(
            [difference_of_means(harmful[:, i], benign[:, i]) for i in range(vlm.num_layers)]
        )
        with torch.no_grad():
            refusing, answering = (
                vlm.logits_of(states[:, -1].to(vlm.device)) for states in (harmful, benign)
            )
        tokens = openers(refusing, answering, config.own_tokens)
        effects = _effects(vlm, vectors, tokens, _trial(data, config), config, progress)
        layer = best_layer(effects) if config.layer is None else config.layer
        gate = None
        if data.calibration_benign:
            held_out = states_of_samples(
                vlm, data.calibration_benign, config.batch_size, "calibrating", progress
            )
            gate = threshold_at_fpr(held_out[:, layer] @ unit(vectors[layer]), config.max_fpr)
        return Artifact(
            self.name,
            config.model_dump(mode="json"),
            {"layer": layer, "gate_threshold": None if gate is None else gate.value},
            {"vector": vectors[layer]},
            {
                **provenance(vlm, data, seed),
                "effects": effects,
                "refusals_seen": refusals_seen(vlm, data.harmful, "the refusal direction"),
                "refusal_tokens": tokens,
                "refusal_words": [vlm.tokenizer.decode([token]) for token in tokens],
                "calibration": None
                if gate is None
                else {"max_fpr": config.max_fpr, **asdict(gate)},
            },
        )

    def read(self, stored: Stored, config: RefusalDirectionConfig) -> RefusalDirectionFitted:
        """The vector of one block, and the gate's threshold if the gate is used."""
        vector = stored.tensor("vector", stored.vlm.hidden_size)
        if not bool(vector.any()):
            raise stored.error("has a 'vector' of zeros, which has no direction")
        threshold = stored.optional_number("gate_threshold")
        if config.gate == "always":
            threshold = None
        elif threshold is None:
            raise ArtifactError(
                'gate="projection" needs a threshold, but this artifact was fitted without '
                "held-out benign samples. Fit it again with held-out benign samples."
            )
        return RefusalDirectionFitted(stored.layer(), vector, threshold)

    def parts(
        self, vlm: VLM, config: RefusalDirectionConfig, fitted: RefusalDirectionFitted
    ) -> Parts:
        """Generates with the edit in place."""

        def change(states: Tensor) -> Tensor:
            vector = fitted.vector.to(states.device)
            return pushed(states, vector, config.strength, fitted.threshold)

        edit = LastTokenEdit({} if config.strength == 0 else {fitted.layer: change})
        return Parts(around=partial(_edited, vlm, edit), edit=edit)


def _edited(vlm: VLM, edit: LastTokenEdit, generate: Generate, inputs: Inputs) -> Any:
    check_supported(vlm, inputs, "A refusal direction cannot be added in")
    if not edit.changes:
        return generate(**inputs)
    with at_last(vlm, inputs, edit.changes):
        return generate(**inputs)


def _added(vector: Tensor, states: Tensor) -> Tensor:
    """The whole vector, on every row, wherever the block is."""
    return pushed(states, vector.to(states.device), 1.0, None)


def _trial(data: FitData, config: RefusalDirectionConfig) -> list[Sample]:
    """Prompts that no vector was computed from, if there are any."""
    pictured = [sample for sample in data.harmful if sample.image is not None]
    benign = [sample for sample in data.benign if sample.image is not None]
    return [*(pictured or benign or data.benign)][: config.trial]


def _effects(
    vlm: VLM,
    vectors: Tensor,
    tokens: Sequence[int],
    trial: Sequence[Sample],
    config: RefusalDirectionConfig,
    progress: bool,
) -> list[float]:
    """The mean probability that a refusal begins after an edit at each block."""

    def effect(batch: Sequence[Sample]) -> Tensor:
        inputs, masses = dict(encode_asked(vlm, batch)), torch.zeros(len(vectors))
        for layer, vector in enumerate(vectors):
            with at_last(vlm, inputs, {layer: partial(_added, vector)}):
                last = last_states(vlm, inputs, [vlm.num_layers - 1])[:, 0]
            with torch.no_grad():
                masses[layer] = openers_mass(vlm.logits_of(last), tokens).sum()
        return masses

    label = "choosing the layer"
    found = by_batches(trial, config.batch_size, effect, label, progress=progress)
    totals = sum(found, torch.zeros(len(vectors)))
    return [float(total) / len(trial) for total in totals]


def best_layer(effects: Sequence[float]) -> int:
    """The block with the largest effect, to two digits; ties go to the latest.

    Later blocks have read more of the prompt, which a gate needs. The last fifth is excluded, as
    in the paper: a vector there only selects the first word.

    Example:
        >>> best_layer([0.2, 0.991, 0.994, 0.3, 1.0])
        2
    """
    candidates = [layer for layer in range(len(effects)) if layer < 0.8 * len(effects)]
    return max(candidates, key=lambda layer: (round(effects[layer], 2), layer))
