"""One pass through a defended model, with gradients: what an attacker who knows it can compute.

A defense is differentiated as it acts, from the same parts as in a generation: its rewritten
prompt, its detector's score on the prefill (through a replay, too), its edit of the states, its
weights. The answer's tokens follow the prompt in the same pass, as in training. A defense that only
replaces answers leaves the pass as it is; which answer to want is then a matter of `wanted`. Any
other that calls the model several times has no single pass, and is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.activations import EditFn, Site, edit, resid_post
from safesight.errors import InputError
from safesight.generation.edits import LastTokenEdit, VisualTokenEdit
from safesight.generation.last_token import last_tokens
from safesight.generation.parts import Parts
from safesight.generation.prefill import watch
from safesight.models.asking import encode_asked
from safesight.models.picture_tensors import TENSORS, PictureTensors, join_pictures
from safesight.models.quantized import is_quantized
from safesight.training.batches import BIDIRECTIONAL, with_answers
from safesight.training.losses import row_losses

if TYPE_CHECKING:
    from safesight.generation.prefill import Detector
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["Batch", "DefendedModel", "Scores", "attacked", "refuse_without_gradient"]


@dataclass(frozen=True)
class Batch:
    """Prompts with the answers that an attacker wants, without their pictures."""

    inputs: Mapping[str, Tensor]
    labels: Tensor
    """B x L: the answers' tokens, IGNORE elsewhere."""
    prompt: Tensor
    """B x L, nonzero at the prompt's tokens."""
    visual: Tensor
    """B x L, true at visual tokens."""
    width: int
    """The longest answer."""


@dataclass(frozen=True)
class Scores:
    """What one pass says of every row; each is a tensor of B float32 values."""

    nll: Tensor
    """Mean negative log-likelihood of the wanted answer's tokens."""
    margin: Tensor | None
    """By how much a detector's score is above its threshold, the largest if there are several;
    at 0 or above the row is refused. None without a detector."""
    shift: Tensor | None
    """Mean length of what is added to a visual token, relative to the token's. None if nothing is
    added to visual tokens."""


@contextmanager
def attacked(vlm: VLM, parts: Sequence[Parts]) -> Iterator[DefendedModel]:
    """Inside, the model under attack: its weights are those of the defense, and have no gradient.

    Args:
        vlm: The model, with no defense attached.
        parts: Those of each defense, in the order of attachment; none for the undefended model.

    Raises:
        InputError: the defense calls the model several times, or the model has no gradients.
    """
    refuse_without_gradient(vlm, parts)
    training = vlm.model.training
    with ExitStack() as stack:
        for part in parts:
            if part.attached is not None:
                stack.enter_context(part.attached)
        wanted = [weight for weight in vlm.model.parameters() if weight.requires_grad]
        try:
            vlm.model.requires_grad_(False).eval()
            yield DefendedModel(vlm, parts)
        finally:
            for weight in wanted:
                weight.requires_grad_(True)
            vlm.model.train(training)


class DefendedModel:
    """A model with the parts of its defenses; made by `attacked`."""

    def __init__(self, vlm: VLM, parts: Sequence[Parts]) -> None:
        self.vlm, self.parts = vlm, tuple(parts)

    @cached_property
    def detectors(self) -> list[Detector]:
        """The detectors of all defenses."""
        return [part.detector for part in self.parts if part.detector is not None]

    def batch(self, samples: Sequence[Sample], answers: Sequence[Sequence[int]]) -> Batch:
        """Requests as the defense rewrites them, each followed by the tokens of a wanted answer.

        Raises:
            InputError: a sample that the model cannot take, or an answer without tokens.
        """
        if not all(answers):
            raise InputError("A wanted answer has no tokens. Give each request an answer.")
        prompts: dict[str, Any] = dict(encode_asked(self.vlm, samples))
        for part in self.parts:
            if part.rewrite is not None:
                prompts = part.rewrite(prompts)
        pad = self.vlm.tokenizer.pad_token_id
        inputs, labels = with_answers(prompts, answers, pad)
        inputs = {name: value for name, value in inputs.items() if name not in TENSORS}
        mask, width = prompts["attention_mask"], max(map(len, answers))
        prompt = torch.cat([mask, mask.new_zeros(len(mask), width)], dim=1)
        visual = self.vlm.image_mask(inputs) & prompt.bool()
        return Batch(inputs, labels, prompt, visual, width)

    def scores(self, batch: Batch, pictures: Sequence[PictureTensors]) -> Scores:
        """One pass over a batch, or two if detectors judge what edits would change.

        Args:
            batch: Of `batch`.
            pictures: The tensors of each row, through which gradients are to flow.
        """
        inputs = {**batch.inputs, **join_pictures(pictures)}
        shifts: list[Tensor] = []
        edits = self._edits(batch, shifts)
        if edits and self.detectors:
            margin = self._pass(batch, inputs, {}, self.detectors)[1]
            nll, _ = self._pass(batch, inputs, edits, [])
        else:
            nll, margin = self._pass(batch, inputs, edits, self.detectors)
        shift = torch.stack(shifts).sum(dim=0) if shifts else None
        return Scores(nll, margin, shift)

    def _pass(
        self,
        batch: Batch,
        inputs: Mapping[str, Tensor],
        edits: Mapping[Site, EditFn],
        detectors: Sequence[Detector],
    ) -> tuple[Tensor, Tensor | None]:
        """The answer's negative log-likelihood, and the margin if there are detectors."""
        vlm = self.vlm
        sites = sorted({site for each in detectors for site in each.sites})
        starts = [each.replay_from for each in detectors if each.replay_from is not None]
        start = min(starts, default=None)
        more = {"logits_to_keep": batch.width + 1} if self._keeps else {}
        with (
            edit(vlm.layers, edits),
            watch(vlm, sites, start, batch.prompt, gradients=True) as prefill,
        ):
            output = vlm.model(**inputs, use_cache=False, **more)
        keep = batch.width + 1
        nll = row_losses(output.logits[:, -keep:], batch.labels[:, -keep:])
        decisions = [each.judge(prefill) for each in detectors]
        margins = [decision.scores.float() - decision.threshold for decision in decisions]
        return nll, torch.stack(margins).amax(dim=0) if margins else None

    @cached_property
    def _keeps(self) -> bool:
        return "logits_to_keep" in inspect.signature(self.vlm.model.forward).parameters

    def _edits(self, batch: Batch, shifts: list[Tensor]) -> dict[Site, EditFn]:
        """The declared edits as functions of the states; `shifts` gets what they add."""
        found: dict[Site, EditFn] = {}
        for part in self.parts:
            if isinstance(part.edit, LastTokenEdit):
                last = last_tokens({"attention_mask": batch.prompt})
                own = {
                    resid_post(layer): partial(_changed, change, last)
                    for layer, change in part.edit.changes.items()
                }
            elif isinstance(part.edit, VisualTokenEdit) and bool(batch.visual.any()):
                own = {part.edit.site: partial(_shifted, part.edit, batch.visual, shifts)}
            else:
                continue
            for site, function in own.items():
                found[site] = partial(_both, found[site], function) if site in found else function
        return found


def _changed(change: Any, last: Tensor, hidden: Tensor) -> Tensor:
    """The state of the last prompt token changed; `last` is B x L."""
    chosen = last.to(hidden.device)
    new = hidden.clone()
    new[chosen] = change(hidden[chosen].float()).to(hidden.dtype)
    return new


def _shifted(edit: VisualTokenEdit, visual: Tensor, shifts: list[Tensor], hidden: Tensor) -> Tensor:
    """The visual tokens shifted; `shifts` gets the relative length of the shift, a mean a row."""
    mask = visual.to(hidden.device)
    states, rows = hidden[mask], mask.nonzero()[:, 0]
    added = edit.shift(states, rows)
    # A root of zero has no gradient.
    lengths = (added.square().sum(dim=-1) + 1e-12).sqrt() / states.float().norm(dim=-1)
    total = lengths.new_zeros(len(mask)).index_add(0, rows, lengths)
    shifts.append(total / mask.sum(dim=1).clamp(min=1))
    new = hidden.clone()
    new[mask] = (states.float() + added).to(hidden.dtype)
    return new


def _both(first: EditFn, second: EditFn, hidden: Tensor) -> Tensor | None:
    once = first(hidden)
    twice = second(hidden if once is None else once)
    return once if twice is None else twice


def refuse_without_gradient(vlm: VLM, parts: Sequence[Parts]) -> None:
    """Refuse what cannot be differentiated.

    Raises:
        InputError: naming it.
    """
    if vlm.family.name in BIDIRECTIONAL:
        raise InputError(
            f"{vlm.name!r} ({vlm.family.name}) reads its prompt in both directions, so the answer "
            "that an attack by gradient wants would be read with it. Choose another model."
        )
    if any(part.around and not part.edit and not part.answers for part in parts):
        raise InputError(
            "A defense that calls the model several times has no gradient from its answer back to "
            "the picture. Use an attack that needs no gradient against it."
        )
    if is_quantized(vlm.model):
        raise InputError(
            f"The weights of {vlm.name!r} are quantized, and an attack by gradient needs those "
            "that it would differentiate. Load the model without a quantization config."
        )
    if vlm.dtype == torch.float16:
        raise InputError(
            f"{vlm.name!r} is loaded in float16, in which gradients of pixels vanish. Load it in "
            "float32 or bfloat16."
        )
    if any(parameter.is_meta for parameter in vlm.model.parameters()):
        raise InputError(
            f"Parts of {vlm.name!r} are offloaded, and have no gradient. Load it on one device."
        )
