"""Tool vector: the shift that an image-tool call causes in hidden states, added without the call.

Paper: Tian, Hu, Wu, Li, Lu, Gong; "When Think-with-Image Meets Safety: What Determines Multimodal
Jailbreak Robustness?"; 2026; https://arxiv.org/abs/2605.27932. Its abstract claims that invoking
an image tool shifts hidden states toward a safety-relevant direction, and names activation
interventions as evidence. The full text could not be read: formula, layers, positions and
coefficients are ours.

Where it acts: on the prefill, at the output of one block, at the last prompt token (whose logits
give the first word of the answer). With h_l(x, c) that state for sample x under condition c,

    v_l = mean_x [ h_l(x, tool) - h_l(x, direct) ]                    paired, no labels

    add       h <- h + strength v_l                                   is the shift sufficient?
    ablate    h <- h - strength (<h, u_l> - m_l) u_l,  u_l = v_l / ||v_l||,  is it necessary?
              m_l = mean_x <h_l(x, direct), u_l>

Adding needs no tool. Ablating is meant for use with the tool: `protect(model, processor,
["image_tools", ToolVector(mode="ablate")], ...)`. The vector is not added at decoding steps,
because that garbles the text of small models.

What is fitted: v_l for every block on samples with pictures, one prefill per sample and condition;
the block on a held-out quarter of them: the most refusals of harmful samples while benign refusals
rise by at most two points. Only that choice uses labels. The controls are fitted at the same time:
the shifts of `text_trace` (the call's text without a picture) and `crop_no_call` (the picture
without a call), and the refusal vector, from text requests.

What it cannot do: one vector for all prompts cannot tell harmful from harmless; benign answers
survive only because they are far from the edge. Measure over-refusal as well. After ablation at one
token, later blocks can restore the shift from the tokens of the call; `reach="onward"` ablates at
every later block too.

Where we differ: unknown, see above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from safesight.activations import unit
from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.contract import Contract
from safesight.defenses.tool_vector.calibration import fit_tool_vector
from safesight.defenses.tool_vector.config import ToolVectorConfig
from safesight.errors import ArtifactError
from safesight.generation.calls import check_supported
from safesight.generation.edits import Change, LastTokenEdit
from safesight.generation.last_token import at_last

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["ToolVector", "ToolVectorConfig", "ablated", "orthogonal"]


def ablated(states: Tensor, direction: Tensor, level: Tensor | float, strength: float) -> Tensor:
    """The states with their component along a direction moved to a given level.

        h - strength (<h, u> - m) u

    Args:
        states: ... x d, float32.
        direction: u, d, unit length.
        level: m.
        strength: 1 moves it fully.

    Example:
        >>> ablated(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]), 1.0, 1.0)
        tensor([1., 4.])
    """
    component = states @ direction - level
    return states - strength * component[..., None] * direction


def orthogonal(vectors: Tensor, others: Tensor) -> Tensor:
    """The part of each vector (... x d) that is orthogonal to its counterpart in `others`.

    Example:
        >>> orthogonal(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]]))
        tensor([[0., 4.]])
    """
    axis = unit(others)
    return vectors - (vectors * axis).sum(dim=-1, keepdim=True) * axis


@dataclass(frozen=True)
class ToolVectorFitted:
    """What a fit of the tool vector found."""

    layer: int
    """The first block that is changed."""
    shifts: Mapping[str, Tensor]
    """v at every block, N x d, by name: each condition and, if the fit had text requests,
    "orthogonal"."""
    direct: Tensor
    """Mean state at every block for the direct prompt, N x d."""


@final
class ToolVector(Defense[ToolVectorConfig, ToolVectorFitted]):
    """The shift of an image-tool call, added to or ablated from the last prompt token.

    Example:
        >>> ToolVector(mode="ablate").config.strength
        1.0
    """

    name = "tool_vector"
    headline = ()
    kind = "activation"
    paper = (
        "Tian et al., When Think-with-Image Meets Safety: What Determines Multimodal Jailbreak "
        "Robustness?, 2026, arXiv 2605.27932"
    )
    needs = frozenset({"activations", "labels"})
    fitted = True
    in_demo = True
    contract = Contract(zero={"strength": 0.0}, draws=True)
    Config = ToolVectorConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Fit the shift at every block and its controls, and choose the block.

        The model is not changed.

        Raises:
            InputError: there are too few samples with pictures.
            ModelError: the requested block does not exist.
        """
        return fit_tool_vector(self.name, vlm, data, self.config, seed=seed, progress=progress)

    def read(self, stored: Stored, config: ToolVectorConfig) -> ToolVectorFitted:
        """The shifts at every block, and the first block to change."""
        blocks = stored.vlm.num_layers
        if config.layer is not None and config.layer >= blocks:
            raise ArtifactError(
                f"{stored.vlm.name!r} has no block {config.layer}: its {blocks} decoder blocks are "
                "counted from 0. Choose one of them as layer."
            )
        shape = (blocks, stored.vlm.hidden_size)
        names = ("tool", "text_trace", "crop_no_call")
        shifts = {name: stored.tensor(name, *shape) for name in names}
        refusal = stored.optional_tensor("refusal", *shape)
        if refusal is not None:
            shifts["orthogonal"] = orthogonal(shifts["tool"], refusal)
        elif config.vector == "orthogonal":
            raise ArtifactError(
                "This tool_vector artifact has no refusal vector: its fit lacked harmful or benign "
                "requests in text. Fit it again with both."
            )
        layer = stored.layer() if config.layer is None else config.layer
        return ToolVectorFitted(layer, shifts, stored.tensor("direct", *shape))

    def parts(self, vlm: VLM, config: ToolVectorConfig, fitted: ToolVectorFitted) -> Parts:
        """The edit."""
        edit = LastTokenEdit(_changes(config, fitted))
        return Parts(around=partial(_edited, vlm, edit.changes), edit=edit)


def _changes(config: ToolVectorConfig, fitted: ToolVectorFitted) -> dict[int, Change]:
    """The change at each block."""
    vectors, direct = _vectors(config, fitted), fitted.direct
    last = fitted.layer if config.reach == "layer" else len(direct) - 1
    return {
        layer: edit_of(config.mode, vectors[layer], direct[layer], config.strength)
        for layer in range(fitted.layer, last + 1)
    }


def edit_of(mode: str, vector: Tensor, direct: Tensor, strength: float) -> Change:
    """Adds a vector (d), or moves the component along it to its mean in `direct` (d)."""
    if mode == "add":
        return lambda states: states + strength * vector.to(states.device)
    axis = unit(vector)
    level = direct @ axis
    return lambda states: ablated(states, axis.to(states.device), level.to(states.device), strength)


def _vectors(config: ToolVectorConfig, fitted: ToolVectorFitted) -> Tensor:
    """The requested vector, N x d."""
    if config.vector == "random":
        rng = torch.Generator().manual_seed(config.random_seed)
        lengths: Tensor = fitted.shifts["tool"].norm(dim=-1, keepdim=True)
        return lengths * unit(torch.randn(fitted.direct.shape, generator=rng))
    return fitted.shifts[config.vector]


def _edited(vlm: VLM, changes: Mapping[int, Change], generate: Generate, inputs: Inputs) -> Any:
    """Generate once with a changed prefill."""
    check_supported(vlm, inputs, "The tool vector cannot change")
    with at_last(vlm, inputs, changes):
        return generate(**inputs)
