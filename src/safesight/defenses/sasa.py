"""SASA: project an early layer on a later one, probe the rerun prompt, and refuse before answering.

Paper: Wang, Ma, Zheng, Tan, Chen; "Self-Aware Safety Augmentation" (SASA); ACM MM 2025;
https://arxiv.org/abs/2507.21637. Its claim: models perceive danger early, understand the
prompt later, and put safety into words last; carrying the understanding back to the layer
that perceives danger lets a linear probe see the risk before anything is generated.
Only the paper's abstract and opening could be read. Equation 8 and the layers follow a
re-implementation made from the paper's text; each default states its source.

Where it acts: on the prefill, once. H_s and H_f are the outputs of an early safety layer s and
a fused layer f (blocks counted from 0), L tokens x d. Every token of H_s is replaced (eq. 8):

    alpha_i = <h_s^i, h_f^i> / (||h_f^i||^2 + eps)        h~_s^i = alpha_i h_f^i

Blocks s+1 .. N-1, final norm and head run again on H~_s, and at the last prompt token

    z = h~_{N-1}, or head(norm(h~_{N-1}))          p(harmful) = sigmoid(w . z + b)

A prompt at or above the threshold is refused. Any other is answered by the model itself,
without projection, from the prefill cache it already has, so its answer does not change.

What is fitted: w and b by logistic regression, on at most a few per cent of a pool of labelled
prompts; s and f by cross-validation over whole things (the paper's relative depths, unless the
balanced accuracy of another pair is greater by a margin); the threshold on held-out benign prompts.
Cost: one prefill per prompt and, for each candidate pair, blocks s+1 .. N-1 once more.

What it cannot do: hold against an attacker with gradients, who gets below the threshold of a
linear probe through both passes. And a probe may learn what its training pictures look like
instead of what they mean: include benign pictures of every kind in the fit. Its only cost in
utility is false refusals.

Where we differ: projection in float32 (half precision overflows on attention sinks); layers
chosen by cross-validation around the paper's relative depths instead of fixed per model; the
threshold at a stated false-positive rate instead of 0.5. The abstract can also be read as the
opposite projection, h_f on h_s, which only rescales h_s; it is available as `f_on_s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Self, final

from pydantic import Field, model_validator
from torch import Tensor

from safesight.activations import LinearProbe, project, resid_post
from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.shared.linear_gate import (
    GateConfig,
    LinearGate,
    blank_probe,
    fit_gate,
    gate_artifact,
    gate_probe,
    read_feature,
)
from safesight.errors import ModelError

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.generation.prefill import Prefill
    from safesight.models import VLM

__all__ = ["SASA", "Direction", "SASAConfig", "candidate_layers", "projected"]

Direction = Literal["s_on_f", "f_on_s"]


class SASAConfig(GateConfig):
    """Settings of SASA."""

    direction: Direction = "s_on_f"
    """Which state is projected on the other. Source: secondary, eq. 8."""
    eps: float = Field(1e-6, ge=0, le=1)
    """Keeps eq. 8 finite at a zero state. Source: secondary, a re-implementation."""
    layers: tuple[int, int] | None = None
    """s and f; None lets the fit choose. Source: secondary, the search starts at the paper's 13
    and 15 of 32 blocks for LLaVA-1.5-7B."""
    search: int = Field(2, ge=0, le=8)
    """How far s and f may move from the starting point. Source: ours."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.layers is not None and not 0 <= self.layers[0] < self.layers[1]:
            raise ValueError("the safety layer must come before the fused layer")
        return self


def projected(safety: Tensor, fused: Tensor, direction: Direction, eps: float) -> Tensor:
    """Eq. 8: the states that replace the safety layer's output.

    Args:
        safety: H_s, ... x d.
        fused: H_f, ... x d.
        direction: "s_on_f" as published; "f_on_s" swaps the roles.
        eps: Added to the squared norm.

    Returns:
        ... x d in the dtype of `safety`; computed in float32.

    Example:
        >>> import torch
        >>> h_s, h_f = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 0.0]])
        >>> projected(h_s, h_f, "s_on_f", eps=0.0)
        tensor([[1., 0.]])
    """
    pair = (safety, fused) if direction == "s_on_f" else (fused, safety)
    return project(*pair, eps=eps).to(safety.dtype)


def candidate_layers(num_layers: int, config: SASAConfig) -> list[tuple[int, int]]:
    """Candidate pairs (s, f): the preferred one first, then by distance from it.

    Raises:
        ModelError: the model has too few blocks, or lacks the requested ones.

    Example:
        >>> candidate_layers(32, SASAConfig())[:3]
        [(13, 15), (12, 15), (13, 14)]
    """
    last = num_layers - 1
    if last < 1 or (config.layers is not None and config.layers[1] > last):
        raise ModelError(
            f"SASA needs a fused layer after its safety layer, but this model has {num_layers} "
            "decoder blocks, counted from 0. Choose layers=(s, f) from these."
        )
    if config.layers is not None:
        return [config.layers]
    s0 = min(round(13 * num_layers / 32), last - 1)
    f0 = min(max(round(15 * num_layers / 32), s0 + 1), last)
    pairs = [
        (s, f)
        for s in range(max(s0 - config.search, 0), s0 + config.search + 1)
        for f in range(f0 - config.search, min(f0 + config.search, last) + 1)
        if s < f
    ]
    return sorted(pairs, key=lambda pair: (abs(pair[0] - s0) + abs(pair[1] - f0), pair))


def _read(prefill: Prefill, config: SASAConfig, layers: tuple[int, int]) -> Tensor:
    """The probe's input z of every row, B x features."""
    s, f = layers
    safe, fused = prefill.states[resid_post(s)], prefill.states[resid_post(f)]
    if safe.shape != fused.shape:
        raise ModelError(
            f"SASA needs the states of all tokens after block {f}, but in a generation this model "
            "runs that block on the last prompt token alone. Choose layers=(s, f) before it."
        )
    hidden = projected(safe, fused.to(safe.device), config.direction, config.eps)
    return read_feature(prefill, prefill.replay(hidden, start=s + 1), config.feature)


def _gate(config: SASAConfig, layers: tuple[int, int], probe: LinearProbe) -> LinearGate:
    sites = [resid_post(layer) for layer in layers]
    read = partial(_read, config=config, layers=layers)
    return LinearGate(sites, layers[0] + 1, config.refusal, probe, read)


@dataclass(frozen=True)
class SASAFitted:
    """What a fit of SASA found."""

    layers: tuple[int, int]
    """s and f."""
    probe: LinearProbe


@final
class SASA(Defense[SASAConfig, SASAFitted]):
    """Self-Aware Safety Augmentation."""

    name = "sasa"
    control = "probe"
    headline = ("probe",)
    kind = "detector"
    attacks = ("paraphrase",)
    paper = "Wang et al., Self-Aware Safety Augmentation, ACM MM 2025, arXiv 2507.21637"
    needs = frozenset({"activations", "labels"})
    fitted = True
    in_demo = True
    Config = SASAConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Choose the layers, fit the probe and set the threshold; the model is not changed.

        Raises:
            InputError: there are too few harmful or benign samples.
            ModelError: the model has too few blocks.
        """
        pairs = candidate_layers(vlm.num_layers, self.config)
        gates = {pair: _gate(self.config, pair, blank_probe()) for pair in pairs}
        fit = fit_gate(vlm, data, self.config, gates, seed=seed, progress=progress)
        return gate_artifact(self.name, vlm, data, self.config, fit, seed, layers=fit.chosen)

    def read(self, stored: Stored, config: SASAConfig) -> SASAFitted:
        """The layers, the probe and its threshold."""
        match stored.layers():
            case [s, f] if s < f:
                return SASAFitted((s, f), gate_probe(stored, config))
            case other:
                raise stored.error(f"has the layers {other}, which are not two in ascending order")

    def parts(self, vlm: VLM, config: SASAConfig, fitted: SASAFitted) -> Parts:
        """The detector."""
        return Parts(detector=_gate(config, fitted.layers, fitted.probe))
