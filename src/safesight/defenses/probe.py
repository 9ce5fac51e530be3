"""Probe: a linear probe on the plain prefill. A control for SASA: the same without projection.

The data, features, solver, threshold and refusal are those of `sasa`; the only difference is
that the probe reads what the model itself computed. Any gain of SASA over this arm is due to
the projection. No paper proposes it as a defense; probes on first-token logits and hidden
states are common baselines.

Where it acts: on the prefill, once; nothing runs twice. With z the last hidden state (or
the first-token logits) at the last prompt token, p(harmful) = sigmoid(w . z + b).

What is fitted: w, b and the threshold. What it cannot do: see SASA.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, final

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

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.generation.prefill import Prefill
    from safesight.models import VLM

__all__ = ["Probe"]


def _read(prefill: Prefill, feature: Feature, last: int) -> Tensor:
    return read_feature(prefill, prefill.states[resid_post(last)], feature)


def _gate(vlm: VLM, config: GateConfig, probe: LinearProbe) -> LinearGate:
    last = vlm.num_layers - 1
    read = partial(_read, feature=config.feature, last=last)
    return LinearGate([resid_post(last)], None, config.refusal, probe, read)


@final
class Probe(Defense[GateConfig, LinearProbe]):
    """A linear probe without projection."""

    name = "probe"
    kind = "detector"
    paper = "none: the control arm of SASA"
    needs = frozenset({"activations", "labels"})
    fitted = True
    Config = GateConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Fit the probe and set the threshold; the model is not changed.

        Raises:
            InputError: there are too few harmful or benign samples.
        """
        gates = {"plain": _gate(vlm, self.config, blank_probe())}
        fit = fit_gate(vlm, data, self.config, gates, seed=seed, progress=progress)
        return gate_artifact(self.name, vlm, data, self.config, fit, seed)

    def read(self, stored: Stored, config: GateConfig) -> LinearProbe:
        """The probe and its threshold."""
        return gate_probe(stored, config)

    def parts(self, vlm: VLM, config: GateConfig, fitted: LinearProbe) -> Parts:
        """The detector."""
        return Parts(detector=_gate(vlm, config, fitted))
