"""Probe: a linear probe on the plain prefill. A control for SASA: the same without projection.

The data, features, solver, threshold and refusal are those of `sasa`; the only difference is
that the probe reads what the model itself computed. Any gain of SASA over this arm is due to
the projection. No paper proposes it as a defense; probes on first-token logits and hidden
states are common baselines.

Where it acts: on the prefill, once; nothing runs twice. With z the hidden state after one block
(or its logits) at the last prompt token, p(harmful) = sigmoid(w . z + b).

What is fitted: the block, as SASA fits its pair (by cross-validation over whole things, the last
block unless another is better by a margin), w, b and the threshold. What it cannot do: see SASA.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, final

from pydantic import Field
from torch import Tensor

from safesight.activations import LinearProbe, resid_post
from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.shared.linear_gate import (
    Feature,
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

__all__ = ["Probe", "ProbeConfig", "candidate_blocks"]

_COMPARED = 8
"""Blocks that "auto" compares. Neighbours hold almost the same, and the states of all blocks of a
large model would not fit in its memory."""


class ProbeConfig(GateConfig):
    """Settings of the probe."""

    layer: Annotated[int, Field(ge=0)] | Literal["auto"] | None = "auto"
    """The block to read. "auto" compares up to eight, spread over the depth, and keeps the last one
    unless another is better; None is the last one. Source: ours."""


def candidate_blocks(num_layers: int, layer: int | Literal["auto"] | None) -> list[int]:
    """The blocks to compare, the preferred one first.

    Raises:
        ModelError: the model lacks the requested block.

    Example:
        >>> candidate_blocks(32, "auto")
        [31, 27, 23, 19, 15, 11, 7, 3]
        >>> candidate_blocks(32, 5), candidate_blocks(32, None)
        ([5], [31])
    """
    last = num_layers - 1
    if layer is None:
        return [last]
    if layer == "auto":
        number = min(_COMPARED, num_layers)
        return [round((i + 1) * num_layers / number) - 1 for i in reversed(range(number))]
    if layer > last:
        raise ModelError(
            f"The probe was to read block {layer}, but this model has {num_layers} decoder blocks, "
            "counted from 0. Choose one of them as layer, or auto."
        )
    return [layer]


@dataclass(frozen=True)
class ProbeFitted:
    """What a fit of the probe found."""

    layer: int
    """The block it reads."""
    probe: LinearProbe


def _read(prefill: Prefill, feature: Feature, layer: int) -> Tensor:
    return read_feature(prefill, prefill.states[resid_post(layer)], feature)


def _gate(config: ProbeConfig, layer: int, probe: LinearProbe) -> LinearGate:
    read = partial(_read, feature=config.feature, layer=layer)
    return LinearGate([resid_post(layer)], None, config.refusal, probe, read)


@final
class Probe(Defense[ProbeConfig, ProbeFitted]):
    """A linear probe without projection."""

    name = "probe"
    kind = "detector"
    attacks = ("paraphrase",)
    paper = "none: the control arm of SASA"
    needs = frozenset({"activations", "labels"})
    fitted = True
    Config = ProbeConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Choose the block, fit the probe and set the threshold; the model is not changed.

        Raises:
            InputError: there are too few harmful or benign samples.
            ModelError: the model lacks the requested block.
        """
        blocks = candidate_blocks(vlm.num_layers, self.config.layer)
        gates = {block: _gate(self.config, block, blank_probe()) for block in blocks}
        fit = fit_gate(vlm, data, self.config, gates, seed=seed, progress=progress)
        return gate_artifact(self.name, vlm, data, self.config, fit, seed, layer=fit.chosen)

    def read(self, stored: Stored, config: ProbeConfig) -> ProbeFitted:
        """The block, the probe and its threshold."""
        # Artifacts made before there was a choice do not name the block: it was the last one.
        named = "layer" in stored.artifact.fitted
        layer = stored.layer() if named else stored.vlm.num_layers - 1
        return ProbeFitted(layer, gate_probe(stored, config))

    def parts(self, vlm: VLM, config: ProbeConfig, fitted: ProbeFitted) -> Parts:
        """The detector."""
        return Parts(detector=_gate(config, fitted.layer, fitted.probe))
