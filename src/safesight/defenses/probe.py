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

from typing import TYPE_CHECKING, final

from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.shared.block_gate import (
    BlockConfig,
    BlockFitted,
    block_gate,
    candidate_blocks,
)
from safesight.defenses.shared.linear_gate import blank_probe, fit_gate, gate_artifact, gate_probe

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.models import VLM

__all__ = ["Probe", "ProbeConfig"]


class ProbeConfig(BlockConfig):
    """Settings of the probe."""


@final
class Probe(Defense[ProbeConfig, BlockFitted]):
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
        gates = {block: block_gate(self.config, block, blank_probe()) for block in blocks}
        fit = fit_gate(vlm, data, self.config, gates, seed=seed, progress=progress)
        return gate_artifact(self.name, vlm, data, self.config, fit, seed, layer=fit.chosen)

    def read(self, stored: Stored, config: ProbeConfig) -> BlockFitted:
        """The block, the probe and its threshold."""
        # Artifacts made before there was a choice do not name the block: it was the last one.
        named = "layer" in stored.artifact.fitted
        layer = stored.layer() if named else stored.vlm.num_layers - 1
        return BlockFitted(layer, gate_probe(stored, config))

    def parts(self, vlm: VLM, config: ProbeConfig, fitted: BlockFitted) -> Parts:
        """The detector."""
        return Parts(detector=block_gate(config, fitted.layer, fitted.probe))
