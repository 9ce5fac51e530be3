"""Risk scores of visual tokens, the gate, and the shift: the mathematics of `rai`.

With h_v the state of a visual token, u_k a word's prototype, tau a threshold, gamma the strength:

    s_vk = cos(h_v, u_k) = <h_v, u_k> / (||h_v|| ||u_k||)          (1)  risk_scores
    K_v  = { k : s_vk > tau }                                      (2)  gated
    h'_v = h_v + gamma * sum over k in K_v of s_vk u_k / ||u_k||   (3)  shift

`generate_shifted` applies any such shift in one generation, to visual tokens of the prefill
only. Text tokens, visual tokens for which no word passes the gate, and all decoding steps are
unchanged, bit for bit. Nothing is fitted here; see `calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from safesight.activations import Site, edit
from safesight.errors import InputError, ModelError
from safesight.generation.calls import check_supported
from safesight.generation.edits import Shift, VisualTokenEdit
from safesight.generation.last_token import one_prompt
from safesight.models.picture_tensors import refuse_videos

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["Injection", "gated", "generate_shifted", "risk_scores", "shift", "top_tokens"]


def risk_scores(
    states: Tensor,
    prototypes: Tensor,
    token_mean: Tensor | None = None,
    word_mean: Tensor | None = None,
) -> Tensor:
    """Equation 1: the cosine of every state (M x d) with every prototype (K x d); M x K, float32.

    Args:
        states: Visual tokens, M x d.
        prototypes: Words, K x d.
        token_mean: d, subtracted from the states first.
        word_mean: d, subtracted from the prototypes first.

    Example:
        >>> h, u = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> risk_scores(h, u)
        tensor([[0.6000, 0.8000]])
    """
    h, u = states.float(), prototypes.to(states.device).float()
    if token_mean is not None:
        h = h - token_mean.to(h.device)
    if word_mean is not None:
        u = u - word_mean.to(u.device)
    return F.normalize(h, dim=-1) @ F.normalize(u, dim=-1).T


def gated(scores: Tensor, tau: float | Tensor) -> Tensor:
    """Equation 2: the cosines above the threshold, zero elsewhere; M x K.

    Example:
        >>> gated(torch.tensor([[0.1, 0.5]]), 0.3)
        tensor([[0.0000, 0.5000]])
    """
    return torch.where(scores > tau, scores, 0.0)


def top_tokens(scores: Tensor, rows: Tensor, count: int) -> Tensor:
    """A threshold for every token (M x 1) that lets the `count` riskiest tokens of its row pass.

    Args:
        scores: M x K cosines.
        rows: M, the batch row of each token.
        count: Tokens per row; more pass if scores are equal.
    """
    best = scores.amax(dim=1)
    tau = torch.empty_like(best)
    for row in set(rows.tolist()):
        own = best[rows == row]
        # Just below the last that passes, as scores must exceed the threshold.
        least = own.topk(min(count, len(own))).values[-1]
        tau[rows == row] = torch.nextafter(least, least.new_tensor(-torch.inf))
    return tau[:, None]


def shift(
    states: Tensor, passed: Tensor, directions: Tensor, strength: float, norm_matched: bool = False
) -> Tensor:
    """Equation 3: what is added to the states; M x d, float32.

    Args:
        states: M x d.
        passed: M x K, from `gated`.
        directions: K x d; only their directions matter, not their lengths.
        strength: gamma; 1 is the published formula.
        norm_matched: Multiply by ||h_v||, so that the step is relative to the token's norm.

    Example:
        >>> h, u = torch.tensor([[2.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> shift(h, gated(risk_scores(h, u), 0.5), u, strength=3.0)
        tensor([[3., 0.]])
    """
    added = strength * (passed @ F.normalize(directions.to(passed.device).float(), dim=-1))
    if norm_matched:
        added = added * torch.linalg.vector_norm(states.float(), dim=-1, keepdim=True)
    return added


@dataclass(frozen=True)
class Injection:
    """Equations 1 to 3 with all their parameters."""

    site: Site
    prototypes: Tensor
    """u_k, K x d."""
    tau: float
    strength: float
    """gamma."""
    norm_matched: bool = False
    top_k: int | None = None
    """Tokens per row that pass, instead of a threshold."""
    token_mean: Tensor | None = None
    word_mean: Tensor | None = None
    directions: Tensor | None = None
    """K x d, added instead of the prototypes; used by the controls."""

    def scores(self, states: Tensor) -> Tensor:
        """Map M x d states to M x K cosines.

        Raises:
            ModelError: a state is not finite, so its risk cannot be scored.
        """
        scores = risk_scores(states, self.prototypes, self.token_mean, self.word_mean)
        if not bool(scores.isfinite().all()):
            raise ModelError(
                "The states of visual tokens are not finite, so their risk cannot be scored. "
                "Load the model with dtype float32 or bfloat16."
            )
        return scores

    def passed(self, states: Tensor, rows: Tensor) -> Tensor:
        """The cosines that pass the gate, zero elsewhere: M x K."""
        scores = self.scores(states)
        tau = self.tau if self.top_k is None else top_tokens(scores, rows, self.top_k)
        return gated(scores, tau)

    @property
    def edit(self) -> VisualTokenEdit:
        """The injection as a declared edit."""
        return VisualTokenEdit(self.site, self.shift, whole=self.top_k is not None)

    def shift(self, states: Tensor, rows: Tensor) -> Tensor:
        """What is added to the states; this is a `Shift`."""
        directions = self.prototypes if self.directions is None else self.directions
        passed = self.passed(states, rows)
        return shift(states, passed, directions, self.strength, self.norm_matched)


def generate_shifted(
    vlm: VLM, site: Site, function: Shift, generate: Generate, inputs: Inputs
) -> Any:
    """Generate with the visual tokens of the prefill shifted; unchanged if there are no pictures.

    Raises:
        InputError: the visual tokens of the prompt cannot be found.
        ModelError: the model ran its blocks in a way that bypassed the shift, or another prompt.
    """
    mask = _visual_tokens(vlm, inputs)
    if not bool(mask.any()):
        return generate(**inputs)
    check_supported(vlm, inputs, "RAI cannot act on")
    changed = _Change(mask, function)
    length = mask.shape[1]
    with (
        one_prompt(vlm.layers[0], length),
        edit(vlm.layers, {site: changed}, prefill_only=True, prompt_length=length),
    ):
        output = generate(**inputs)
    if not changed.ran:
        raise ModelError(
            f"The pictures did not pass block {site.layer} of {vlm.name!r} in a prefill, so the "
            "answer was not defended and is not returned. Use model.generate."
        )
    return output


class _Change:
    """The shift as an edit of B x L x d states."""

    def __init__(self, mask: Tensor, function: Shift) -> None:
        self.mask, self.function, self.ran = mask, function, False

    def __call__(self, hidden: Tensor) -> Tensor | None:
        self.ran = True
        # The model gives each of several answers to a prompt its own row.
        mask = self.mask.repeat_interleave(len(hidden) // len(self.mask), dim=0)
        mask = mask.to(hidden.device)
        assert mask.shape == hidden.shape[:2], (mask.shape, hidden.shape)
        states, rows = hidden[mask], mask.nonzero()[:, 0]
        added = self.function(states, rows)
        moved = (added != 0).any(dim=-1, keepdim=True)
        if not bool(moved.any()):
            return None
        new = hidden.clone()
        new[mask] = torch.where(moved, (states.float() + added).to(hidden.dtype), states)
        return new


def _visual_tokens(vlm: VLM, inputs: Inputs) -> Tensor:
    refuse_videos(inputs, "RAI")
    if inputs.get("input_ids") is None and inputs.get("inputs_embeds") is not None:
        raise InputError(
            "RAI finds pictures by their placeholder tokens, but generate was given inputs_embeds. "
            "Pass input_ids and pixel values."
        )
    if inputs.get("input_ids") is None:
        return torch.zeros(1, 1, dtype=torch.bool)
    mask: Tensor = vlm.image_mask(inputs)
    return mask
