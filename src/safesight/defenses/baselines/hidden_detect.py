"""HiddenDetect: does any layer of the model lean towards refusing, even if the answer will not?

Paper: Jiang et al., "HiddenDetect: Detecting Jailbreak Attacks against Large Vision-Language
Models via Monitoring Hidden States", ACL 2025, https://arxiv.org/abs/2502.14744. Its claim:
jailbreaks suppress the refusal in the last layers, but middle layers still point to refusal
words. The score follows the authors' code.

Where it acts: on the prefill, once, at the last prompt token. With r the vector over the
vocabulary that is 1 at refusal tokens and 0 elsewhere:

    F_l   = cos(head(norm(h_l)), r)                       every block l
    FDV_l = mean F_l(harmful) - mean F_l(benign)          on a few labelled prompts
    safety-aware layers = {l: FDV_l > FDV_last}
    score = area under F over those layers (trapezoids of unit width)

A prompt at or above the threshold is refused. Any other is answered by the model itself, from
the prefill cache it already has.

What is fitted: the safety-aware layers, and the threshold on held-out benign prompts; with
`tokens="auto"` the refusal tokens too. Cost: one prefill per prompt.

What it cannot do: it needs a model whose refusals begin with distinctive words, and a prompt
that brings them to mind. One-class scores of this kind are said to shift with the kind of
picture (secondary).

Where we differ: the threshold is set at a stated false-positive rate instead of a fixed value;
we add the tokens that begin the model's own refusals, where the authors extend their list by
hand. A single safety-aware layer has no area, so its F is the score. If no layer is above the
last one, the last one is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from safesight.activations import Site, auroc, cosine, resid_post, threshold_at_fpr
from safesight.defenses.base import Defense, DefenseConfig, Parts, Stored
from safesight.defenses.shared.refusal_words import openers, published_tokens
from safesight.defenses.shared.refusals_seen import refusals_seen
from safesight.errors import InputError, ModelError
from safesight.fitting.artifact import Artifact
from safesight.fitting.provenance import provenance
from safesight.fitting.ranges import in_card
from safesight.generation.last_token import states_of_samples
from safesight.generation.prefill import Decision, Prefill
from safesight.generation.prompt_sizes import calibration_range
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.fitting.data import FitData
    from safesight.models import VLM

__all__ = [
    "HiddenDetect",
    "HiddenDetectConfig",
    "HiddenDetector",
    "area",
    "refusal_cosine",
    "safety_aware",
]

PUBLISHED_THRESHOLD = 0.2
"""From a re-implementation for other models; used if a fit has no held-out benign prompts."""


class HiddenDetectConfig(DefenseConfig):
    """Settings of HiddenDetect."""

    at_use: ClassVar[frozenset[str]] = frozenset({"enabled", "refusal", "threshold"})

    tokens: Literal["published", "auto"] = "auto"
    """The authors' words that are single tokens; "auto" adds the model's own. Source: ours."""
    own_tokens: int = Field(5, ge=1, le=100)
    """Maximum number of the model's own tokens. Source: ours."""
    max_fpr: float = Field(0.01, ge=0, lt=1)
    """Maximum share of held-out benign prompts refused. Source: ours."""
    threshold: float | None = Field(None, allow_inf_nan=False)
    """A score that replaces the calibrated threshold; a re-implementation uses 0.2.
    None keeps the calibrated one. Source: ours."""
    batch_size: int = Field(16, ge=1)
    """Prompts per forward pass during a fit. Source: ours."""
    refusal: str = Field(
        "I'm sorry, but I cannot help with that request.", min_length=1, max_length=10_000
    )
    """The answer to a refused prompt. Source: ours."""


def refusal_cosine(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """F: the cosine of logits, ... x vocabulary, with the vector that is 1 at `tokens`.

    Example:
        >>> refusal_cosine(torch.tensor([[3.0, 4.0]]), [1])
        tensor([0.8000])
    """
    refusal = torch.zeros(logits.shape[-1], device=logits.device)
    refusal[list(tokens)] = 1.0
    return cosine(logits, refusal.expand_as(logits))


def safety_aware(harmful: Tensor, benign: Tensor) -> list[int]:
    """The layers whose FDV exceeds the last layer's, or the last layer if there are none.

    Args:
        harmful: F of harmful prompts, n x layers.
        benign: F of benign prompts, m x layers.

    Raises:
        InputError: either is empty.

    Example:
        >>> safety_aware(torch.tensor([[0.1, 0.6, 0.3]]), torch.tensor([[0.1, 0.1, 0.1]]))
        [1]
    """
    if len(harmful) == 0 or len(benign) == 0:
        raise InputError(
            f"A fit needs harmful and benign samples, but there are {len(harmful)} harmful and "
            f"{len(benign)} benign ones. Add samples, or use more of them."
        )
    fdv = harmful.float().mean(0) - benign.float().mean(0)
    found = [layer for layer, value in enumerate(fdv) if value > fdv[-1]]
    return found or [len(fdv) - 1]


def area(values: Tensor) -> Tensor:
    """Area under F (n x layers), with unit spacing between layers; for one layer, F itself.

    Example:
        >>> area(torch.tensor([[0.0, 1.0, 0.0]])), area(torch.tensor([[0.5]]))
        (tensor([1.]), tensor([0.5000]))
    """
    if values.shape[1] == 1:
        return values[:, 0]
    under: Tensor = torch.trapezoid(values, dim=1)
    return under


@dataclass(frozen=True)
class HiddenDetector:
    """A detector: refuses where the area under the refusal cosine reaches the threshold."""

    layers: Sequence[int]
    tokens: Sequence[int]
    threshold: float
    refusal: str
    replay_from: None = None

    @property
    def sites(self) -> Sequence[Site]:
        """The outputs of the safety-aware layers."""
        return [resid_post(layer) for layer in self.layers]

    def judge(self, prefill: Prefill) -> Decision:
        """The area of every row, and which rows are refused."""
        states = [prefill.at_last(prefill.states[site]) for site in self.sites]
        cosines = [refusal_cosine(prefill.vlm.logits_of(each), self.tokens) for each in states]
        scores = area(torch.stack([each.to(cosines[0].device) for each in cosines], dim=1))
        return Decision(scores, scores >= self.threshold, self.threshold)


@dataclass(frozen=True)
class HiddenDetectFitted:
    """What a fit of HiddenDetect found."""

    layers: Sequence[int]
    """The safety-aware layers."""
    tokens: Sequence[int]
    """The tokens that begin refusals."""
    threshold: float


@final
class HiddenDetect(Defense[HiddenDetectConfig, HiddenDetectFitted]):
    """Monitors refusal words in the hidden states."""

    name = "hidden_detect"
    kind = "detector"
    attacks = ("paraphrase",)
    paper = "Jiang et al., HiddenDetect, ACL 2025, https://arxiv.org/abs/2502.14744"
    needs = frozenset({"activations", "labels"})
    fitted = True
    in_demo = True
    Config = HiddenDetectConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Find the refusal tokens and the safety-aware layers, and set the threshold.

        Raises:
            InputError: there are no harmful or no benign samples.
            ModelError: none of the published words is a token of this model.
        """
        kinds = ("harmful", data.harmful), ("benign", data.benign)
        harmful, benign = (
            states_of_samples(vlm, samples, self.config.batch_size, label, progress)
            for label, samples in kinds
        )
        tokens = _tokens(vlm, data, self.config, harmful[:, -1], benign[:, -1])
        values = _cosines(vlm, harmful, tokens), _cosines(vlm, benign, tokens)
        layers = safety_aware(*values)
        scores = torch.cat([area(each[:, layers]) for each in values])
        labels = torch.tensor([1] * len(harmful) + [0] * len(benign))
        calibration, calibrated, threshold = None, None, PUBLISHED_THRESHOLD
        if data.calibration_benign:
            held_out = states_of_samples(
                vlm, data.calibration_benign, self.config.batch_size, "calibrating", progress
            )
            held_out_scores = area(_cosines(vlm, held_out, tokens)[:, layers])
            found = threshold_at_fpr(held_out_scores, self.config.max_fpr)
            calibration = {"max_fpr": self.config.max_fpr, **asdict(found)}
            threshold = found.value
            calibrated = calibration_range(vlm, data.calibration_benign, held_out_scores)
        own = self.config.tokens != "published"
        seen = refusals_seen(vlm, data.harmful, "the model's own refusal words") if own else None
        return Artifact(
            self.name,
            self.config.model_dump(mode="json"),
            {"layers": layers, "tokens": tokens, "threshold": threshold},
            {},
            {
                **provenance(vlm, data, seed),
                "fdv": (values[0].mean(0) - values[1].mean(0)).tolist(),
                "refusals_seen": seen,
                "refusal_words": [vlm.tokenizer.decode([token]) for token in tokens],
                "training_auroc": asdict(auroc(scores, labels)),
                "calibration": calibration,
                **in_card(calibrated),
            },
        )

    def read(self, stored: Stored, config: HiddenDetectConfig) -> HiddenDetectFitted:
        """Layers, tokens and threshold."""
        return HiddenDetectFitted(stored.layers(), stored.tokens(), stored.number("threshold"))

    def parts(self, vlm: VLM, config: HiddenDetectConfig, fitted: HiddenDetectFitted) -> Parts:
        """The detector."""
        threshold = fitted.threshold if config.threshold is None else config.threshold
        detector = HiddenDetector(fitted.layers, fitted.tokens, threshold, config.refusal)
        return Parts(detector=detector)


def _cosines(vlm: VLM, states: Tensor, tokens: Sequence[int]) -> Tensor:
    """F of n x layers x d states: n x layers. One layer at a time, as logits are large."""
    with torch.no_grad():
        found = [
            refusal_cosine(vlm.logits_of(states[:, layer].to(vlm.device)), tokens).cpu()
            for layer in range(states.shape[1])
        ]
    return torch.stack(found, dim=1)


def _tokens(
    vlm: VLM, data: FitData, config: HiddenDetectConfig, harmful: Tensor, benign: Tensor
) -> list[int]:
    """The refusal tokens; the model's own come from its first-token logits on text prompts."""
    tokens = published_tokens(vlm)
    if config.tokens == "published":
        if not tokens:
            raise ModelError(
                f"None of HiddenDetect's published words is a single token of {vlm.name!r}. "
                'Use tokens="auto".'
            )
        return tokens
    refusing, answering = (
        _first_logits(vlm, samples, states)
        for samples, states in ((data.harmful, harmful), (data.benign, benign))
    )
    return list(dict.fromkeys([*tokens, *openers(refusing, answering, config.own_tokens)]))


def _first_logits(vlm: VLM, samples: Sequence[Sample], states: Tensor) -> Tensor:
    """First-token logits of the samples without a picture, or of all if all have one."""
    rows = [row for row, sample in enumerate(samples) if sample.image is None]
    with torch.no_grad():
        logits: Tensor = vlm.logits_of(states[rows or slice(None)].to(vlm.device))
    return logits
