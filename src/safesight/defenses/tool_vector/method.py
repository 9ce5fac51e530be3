"""Tool vector: the shift that an image-tool call causes in hidden states, added without the call.

Paper: Tian, Hu, Wu, Li, Lu, Gong; "When Think-with-Image Meets Safety: What Determines Multimodal
Jailbreak Robustness?"; 2026; https://arxiv.org/abs/2605.27932. Its abstract claims that invoking
an image tool shifts hidden states toward a safety-relevant direction, and names activation
interventions as evidence. Its full text could not be read: formula, layers, positions and
coefficients are ours.

Where it acts: on the prefill, at the output of one block, at the last prompt token (the one whose
logits give the first word of the answer). With h_l(x, c) that state of sample x under condition c,

    v_l = mean_x [ h_l(x, tool) - h_l(x, direct) ]                    paired, no labels

    add       h <- h + strength v_l                                   is the shift enough?
    ablate    h <- h - strength (<h, u_l> - m_l) u_l,  u_l = v_l / ||v_l||,  is it needed?
              m_l = mean_x <h_l(x, direct), u_l>

Adding needs no tool. Ablating is for use under the tool: `protect(model, processor,
["image_tools", ToolVector(mode="ablate")], ...)`. Added at every decoding step a vector of this
kind garbles the text of small models, so it is not.

What is fitted: v_l for every block on samples with pictures, one prefill a sample and condition;
the block on a quarter of them, held out: the largest refusal of harmful ones with benign refusals
up by at most two points. That choice alone uses labels. The controls are fitted along: the shifts
of `text_trace` (the call's text without a picture) and `crop_no_call` (the picture without a
call), and the refusal vector, from requests in text.

What it cannot do: one vector for all prompts cannot tell harmful from harmless; what keeps benign
answers is only how far they are from the edge. Measure over-refusal beside it. Ablation at one
token lets later blocks bring the shift back from the tokens of the call; `reach="onward"` goes on
ablating.

Where we differ: not known, see above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from safesight.activations import EditFn, edit, resid_post, unit
from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.contract import Contract
from safesight.defenses.tool_vector.calibration import fit_tool_vector
from safesight.defenses.tool_vector.config import ToolVectorConfig
from safesight.errors import ArtifactError, ModelError
from safesight.generation.calls import refuse_begun

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["ToolVector", "ToolVectorConfig", "ablated", "orthogonal"]


def ablated(states: Tensor, direction: Tensor, level: Tensor | float, strength: float) -> Tensor:
    """The states with their component along a direction moved to a level.

        h - strength (<h, u> - m) u

    Args:
        states: ... x d, float32.
        direction: u, d, unit length.
        level: m.
        strength: 1 moves it all the way.

    Example:
        >>> ablated(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]), 1.0, 1.0)
        tensor([1., 4.])
    """
    component = states @ direction - level
    return states - strength * component[..., None] * direction


def orthogonal(vectors: Tensor, others: Tensor) -> Tensor:
    """What of each vector (... x d) is orthogonal to the other at its place.

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
    """v of every block, N x d, by name: of each condition and, if the fit had requests in text,
    "orthogonal"."""
    direct: Tensor
    """Mean state of every block under the direct prompt, N x d."""


@final
class ToolVector(Defense[ToolVectorConfig, ToolVectorFitted]):
    """The shift of an image-tool call, added to or taken from the last prompt token.

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
        """The shift of every block, its controls, and the block; the model is not changed.

        Raises:
            InputError: too few samples with pictures.
            ModelError: the block asked for does not exist.
        """
        return fit_tool_vector(self.name, vlm, data, self.config, seed=seed, progress=progress)

    def read(self, stored: Stored, config: ToolVectorConfig) -> ToolVectorFitted:
        """The shifts of every block, and the block to begin with."""
        blocks = stored.vlm.num_layers
        if config.layer is not None and config.layer >= blocks:
            raise ArtifactError(
                f"The block {config.layer} is not one of the {blocks} of {stored.vlm.name!r}, "
                "counted from 0. Choose layer among them."
            )
        shape = (blocks, stored.vlm.hidden_size)
        names = ("tool", "text_trace", "crop_no_call")
        shifts = {name: stored.tensor(name, *shape) for name in names}
        refusal = stored.optional_tensor("refusal", *shape)
        if refusal is not None:
            shifts["orthogonal"] = orthogonal(shifts["tool"], refusal)
        elif config.vector == "orthogonal":
            raise ArtifactError(
                "This tool_vector artifact has no refusal vector, as its fit had no harmful and "
                "benign requests in text alone. Fit it again with some."
            )
        layer = stored.layer() if config.layer is None else config.layer
        return ToolVectorFitted(layer, shifts, stored.tensor("direct", *shape))

    def parts(self, vlm: VLM, config: ToolVectorConfig, fitted: ToolVectorFitted) -> Parts:
        """The edit."""
        return Parts(around=partial(_edited, vlm, _changes(config, fitted)))


Change = Callable[[Tensor], Tensor]
"""From the last prompt tokens' states, B x d in float32, to the new ones."""


def _changes(config: ToolVectorConfig, fitted: ToolVectorFitted) -> dict[int, Change]:
    """What happens at which block."""
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
    """The vector that was asked for, N x d."""
    if config.vector == "random":
        rng = torch.Generator().manual_seed(config.random_seed)
        lengths: Tensor = fitted.shifts["tool"].norm(dim=-1, keepdim=True)
        return lengths * unit(torch.randn(fitted.direct.shape, generator=rng))
    return fitted.shifts[config.vector]


def _edited(vlm: VLM, changes: dict[int, Change], generate: Generate, inputs: Inputs) -> Any:
    """One generation whose prefill is changed."""
    refuse_begun(inputs, "The tool vector changes the prefill")
    prompt = inputs.get("input_ids", inputs.get("inputs_embeds"))
    mask = inputs.get("attention_mask")
    done: set[int] = set()
    edits = {
        resid_post(layer): _at_last(change, mask, partial(done.add, layer))
        for layer, change in changes.items()
    }
    length = None if prompt is None else prompt.shape[1]
    with edit(vlm.layers, edits, prefill_only=True, prompt_length=length):
        output = generate(**inputs)
    if done != set(changes):  # an undefended answer must not come out
        raise ModelError(
            "The tool vector was not applied: generate did not show its prefill to the hooks. "
            "Use greedy decoding or sampling, or remove the defense."
        )
    return output


def _at_last(change: Change, mask: Tensor | None, done: Callable[[], None]) -> EditFn:
    """The change at every row's last prompt token, whichever side is padded."""

    def function(hidden: Tensor) -> Tensor:
        done()
        rows = torch.arange(len(hidden), device=hidden.device)
        last = torch.full_like(rows, hidden.shape[1] - 1)
        if mask is not None:
            positions = torch.arange(mask.shape[1], device=mask.device)
            last = (mask.bool() * positions).amax(dim=1).to(hidden.device)
            last = last.repeat_interleave(len(hidden) // len(last))  # several answers to a prompt
        new = hidden.clone()
        new[rows, last] = change(hidden[rows, last].float()).to(hidden.dtype)
        return new

    return function
