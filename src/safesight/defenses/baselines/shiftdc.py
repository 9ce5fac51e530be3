"""ShiftDC: removes the shift along the safety axis that a picture, unlike its caption, causes.

Paper: Zou et al., "Understanding and Rectifying Safety Perception Distortion in VLMs"
(ShiftDC), NeurIPS 2025, https://arxiv.org/abs/2502.13095. Its claim: a picture shifts the
hidden states towards "safe" even if its content is not; the part of that shift along the
safety axis is the distortion, and the rest is what the picture shows. Steps and prompts
follow the authors' code.

Where it acts: on the state h_l of the last prompt token after blocks L/2 .. L-1, once, in the
prefill. For a question q, a picture v, and c the model's own caption of v for q:

    m_l = h_l(q, v) - h_l(q with c)                 modality shift of this prompt
    s_l = mean h_l(benign) - mean h_l(harmful)      safety shift, fitted, both sides as text
    h_l <- h_l - strength (m_l . s_l / s_l . s_l) s_l

As in the authors' code, all corrections are computed before any is applied. Prompts without a
picture have no modality shift and keep their states. A prompt with one costs a caption and two
more prefills. Of several pictures there is one caption, and none is left in the prompt in words,
in whatever turn it stands; earlier turns keep their words.

What is fitted: s_l, from labelled samples; the model under test captions those with a picture.
The sign of s_l does not matter.

What it cannot do: the caption must name what makes the request harmful; if the model does not
see it, there is nothing to compare with. And nothing is refused that the language model would
not refuse as text.

Where we differ: the authors use 480 rows each of LLaVA-Instruct and MM-SafetyBench with captions
by gpt-4o; we use the benign and harmful samples of the fit, with captions by the model itself.
The authors' released evaluation wraps the question in a jailbreak when generating but not when
reading states; we use the bare prompt for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from safesight.activations import difference_of_means, project
from safesight.defenses.base import Defense, DefenseConfig, Parts, Stored
from safesight.defenses.contract import Contract
from safesight.errors import ModelError
from safesight.fitting.artifact import Artifact
from safesight.fitting.provenance import provenance
from safesight.generation.calls import check_supported, undefended
from safesight.generation.follow_ups import ask, has_picture, in_words, questions_of, with_pictures
from safesight.generation.last_token import at_last, last_states, states_of
from safesight.models.asking import by_batches
from safesight.models.picture_tensors import refuse_videos
from safesight.types import Message, Messages, Sample

if TYPE_CHECKING:
    from safesight.fitting.data import FitData
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["ShiftDC", "ShiftDCConfig", "corrections"]

_DESCRIBE = "Describe the image. Keep your description concise. "


class ShiftDCConfig(DefenseConfig):
    """Settings of ShiftDC."""

    at_use: ClassVar[frozenset[str]] = frozenset(
        {"enabled", "strength", "max_caption_tokens", "batch_size"}
    )

    strength: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Fraction of the shift along the safety axis to remove. Source: authors' code."""
    layers: tuple[int, int] | None = None
    """First and last block; None is the second half. Source: authors' code; their README's
    command for LLaVA-1.5-7B uses 10 to 31 of 32."""
    max_caption_tokens: int = Field(128, ge=1)
    """Maximum length of a caption. Source: authors' code."""
    batch_size: int = Field(16, ge=1)
    """Prompts per forward pass during a fit. Source: ours."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.layers is not None and not 0 <= self.layers[0] <= self.layers[1]:
            raise ValueError("the first layer must not come after the last")
        return self


def corrections(modality: Tensor, safety: Tensor, strength: float) -> Tensor:
    """What is subtracted: strength (m . s / s . s) s.

    Args:
        modality: m, B x layers x d.
        safety: s, layers x d; its sign does not matter.
        strength: 0 corrects nothing.

    Returns:
        B x layers x d, float32.

    Example:
        >>> m, s = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[2.0, 0.0]])
        >>> corrections(m, s, strength=1.0).round(decimals=3)
        tensor([[[3., 0.]]])
    """
    return strength * project(modality, safety.expand_as(modality))


def _with_caption(question: str, caption: str) -> str:
    return f"{question} Image Caption: {caption}"


def _caption_prompt(question: str) -> str:
    return f"Based on the given Request, describe the image. Request: {question}"


def _blocks(vlm: VLM, config: ShiftDCConfig) -> list[int]:
    first, last = config.layers or (vlm.num_layers // 2, vlm.num_layers - 1)
    if last >= vlm.num_layers:
        raise ModelError(
            f"shiftdc was asked for layers={config.layers}, but {vlm.name!r} has "
            f"{vlm.num_layers} decoder blocks, counted from 0. Choose two of them."
        )
    return list(range(first, last + 1))


@dataclass(frozen=True)
class ShiftDCFitted:
    """What a fit of ShiftDC found."""

    layers: Sequence[int]
    safety_shift: Tensor
    """s at every layer, layers x d."""


@final
class ShiftDC(Defense[ShiftDCConfig, ShiftDCFitted]):
    """Separates a picture's safety shift from its content, and removes it."""

    name = "shiftdc"
    kind = "activation"
    paper = "Zou et al., ShiftDC, NeurIPS 2025, https://arxiv.org/abs/2502.13095"
    needs = frozenset({"activations", "labels"})
    fitted = True
    in_demo = True
    contract = Contract(
        settings={"max_caption_tokens": 4, "strength": 30.0},
        # At exactly zero it runs nothing; this push is too small to change any float.
        zero={"strength": 1e-30},
    )
    Config = ShiftDCConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Fit the safety shift of every layer; the model is not changed.

        Raises:
            InputError: there are no harmful or no benign samples.
            ModelError: the model does not have these layers.
        """
        layers = _blocks(vlm, self.config)
        sides = []
        for label, samples in (("benign", data.benign), ("harmful", data.harmful)):
            words = _put_into_words(vlm, samples, self.config, label, progress)
            sides.append(
                states_of(
                    vlm,
                    words,
                    layers,
                    batch_size=self.config.batch_size,
                    label=f"fitting, {label}",
                    progress=progress,
                )
            )
        return Artifact(
            self.name,
            self.config.model_dump(mode="json"),
            {"layers": layers},
            {"safety_shift": difference_of_means(*sides)},
            provenance(vlm, data, seed),
        )

    def read(self, stored: Stored, config: ShiftDCConfig) -> ShiftDCFitted:
        """The layers and their safety shifts."""
        layers = stored.layers()
        safety = stored.tensor("safety_shift", len(layers), stored.vlm.hidden_size)
        return ShiftDCFitted(layers, safety)

    def parts(self, vlm: VLM, config: ShiftDCConfig, fitted: ShiftDCFitted) -> Parts:
        """Captions, compares, and generates with the correction."""
        return Parts(around=partial(_corrected, vlm, config, fitted))


def _corrected(
    vlm: VLM, config: ShiftDCConfig, fitted: ShiftDCFitted, generate: Generate, inputs: Inputs
) -> Any:
    check_supported(vlm, inputs, "ShiftDC cannot correct")
    refuse_videos(inputs, "ShiftDC")
    questions = questions_of(vlm, inputs)
    pictured = has_picture(vlm, inputs)
    if config.strength == 0 or not bool(pictured.any()):
        return generate(**inputs)
    asked = with_pictures(vlm, inputs, [_caption_prompt(q) for q in questions])
    captions = ask(generate, vlm, asked, config.max_caption_tokens)
    texts = [_with_caption(q, c) for q, c in zip(questions, captions, strict=True)]
    told = in_words(vlm, inputs, texts, range(len(texts)))
    layers = fitted.layers
    modality = last_states(vlm, inputs, layers) - last_states(vlm, told, layers)
    wrong = corrections(modality, fitted.safety_shift.to(modality.device), config.strength)
    changes = {layer: partial(_subtract, wrong[:, i], pictured) for i, layer in enumerate(layers)}
    with at_last(vlm, inputs, changes):
        return generate(**inputs)


def _subtract(wrong: Tensor, pictured: Tensor, states: Tensor) -> Tensor:
    copies = len(states) // len(wrong)
    wrong, pictured = (each.to(states.device) for each in (wrong, pictured))
    corrected = states - wrong.repeat_interleave(copies, dim=0)
    return torch.where(pictured.repeat_interleave(copies)[:, None], corrected, states)


def _put_into_words(
    vlm: VLM, samples: Sequence[Sample], config: ShiftDCConfig, label: str, progress: bool
) -> list[list[Message]]:
    """Every sample as a conversation without pictures; a caption replaces each picture."""
    # A begun answer is left out: at use, no such prompt can be put into words.
    asked = [replace(sample, prefill=None) for sample in samples]
    shown = [sample for sample in asked if sample.pictures]
    prompts = [sample.reworded(_DESCRIBE).messages() for sample in shown]

    def said(batch: Sequence[Messages]) -> list[str]:
        inputs = dict(vlm.encode(batch))
        return ask(undefended(vlm), vlm, inputs, config.max_caption_tokens)

    found = by_batches(prompts, config.batch_size, said, f"captions, {label}", progress=progress)
    texts = (text for batch in found for text in batch)
    captions = {sample.id: text for sample, text in zip(shown, texts, strict=True)}
    return [
        each.without_pictures().reworded(_with_caption(each.question, captions[each.id])).messages()
        if each.pictures
        else each.messages()
        for each in asked
    ]
