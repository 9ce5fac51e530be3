"""Plain unlearning, which NPO and RMU must beat: gradient ascent, with and without a retain term.

Papers: `grad_ascent`, Jang et al., "Knowledge Unlearning for Mitigating Privacy Risks in Language
Models", ACL 2023, https://arxiv.org/abs/2210.01504; `grad_diff`, Liu et al., "Continual Learning
and Private Unlearning", CoLLAs 2022, https://arxiv.org/abs/2203.12817; `kl`, as a baseline of Maini
et al., "TOFU", COLM 2024, https://arxiv.org/abs/2401.06121.

Where they act: on the weights. With CE the mean negative log-likelihood of answer tokens and
theta_0 the original model,

    grad_ascent   L = -CE(forget)
    grad_diff     L = -CE(forget) + retain_weight CE(retain)
    kl            L = -CE(forget) + retain_weight mean_t KL( p_theta_0( . | y_<t, x) || p_theta )

where the KL term averages over the answer tokens t of retain rows. Cost: one forward and backward
pass per term, plus one forward pass of theta_0 for `kl`.

What they cannot do: -CE is unbounded below, so the model collapses if nothing stops it. A few steps
too many and every answer is noise; `max_steps` and `learning_rate` decide everything.

Where we differ: the papers study language models; the settings are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, final

from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.contract import ONE_STEP
from safesight.training.batches import IGNORE
from safesight.training.choice import choose
from safesight.training.own_answers import AnswersConfig, settled
from safesight.training.passes import answer_term
from safesight.training.run import Fitting, Method, TuningRun, train
from safesight.training.weights import Weights, tuned

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.models import VLM
    from safesight.training.passes import Batch, Passes, Term
    from safesight.types import TuningSet

__all__ = ["KL", "GradAscent", "GradDiff", "RetainConfig", "divergence"]


class RetainConfig(AnswersConfig):
    """Settings of gradient ascent with a retain term."""

    retain_weight: FiniteFloat = Field(1.0, ge=0)
    """Weight of the retain term. Source: paper."""


def divergence(base: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """KL(p_0 || p), averaged over labelled tokens; a scalar.

    Args:
        base: Logits of p_0, B x T x V.
        logits: Logits of p, the same shape.
        labels: B x T; tokens that count, each predicted from the position before it.

    Example:
        >>> import torch
        >>> base, labels = torch.tensor([[[0.0, 0.0], [1.0, 2.0]]]), torch.tensor([[-100, 1]])
        >>> divergence(base, base, labels), divergence(base, base + base[:, 1:], labels) > 0
        (tensor(0.), tensor(True))
    """
    counted = labels[:, 1:] != IGNORE
    was = F.log_softmax(base[:, :-1].float(), dim=-1)
    now = F.log_softmax(logits[:, :-1].float(), dim=-1)
    each = (was.exp() * (was - now)).sum(dim=-1)
    return (each * counted).sum() / counted.sum().clamp(min=1)


@final
class GradAscent(Defense[AnswersConfig, Weights]):
    """Makes harmful answers less likely, without bound."""

    name = "grad_ascent"
    kind = "weights"
    attacks = ("one_word", "prefill")
    paper = (
        "Jang et al., Knowledge Unlearning for Mitigating Privacy Risks in Language Models, "
        "ACL 2023, arXiv 2210.01504"
    )
    needs = frozenset({"gradients", "forget_set", "retain_set"})
    fitted = True
    contract = ONE_STEP
    Config = AnswersConfig

    def fit(
        self,
        vlm: VLM,
        data: FitData,
        *,
        seed: int = 0,
        progress: bool = True,
        run: TuningRun | None = None,
    ) -> Artifact:
        """Train; the model is restored afterwards. Same errors as `NPO.fit`."""
        fitting = Fitting(self.name, vlm, data, self.config, seed, progress, run)
        return _trained(fitting, [_ascent], retain=False)

    def read(self, stored: Stored, config: AnswersConfig) -> Weights:
        """The trained weights."""
        return Weights.read(stored)

    def parts(self, vlm: VLM, config: AnswersConfig, fitted: Weights) -> Parts:
        """Installs the trained weights."""
        return Parts(attached=tuned(vlm, fitted))


@final
class GradDiff(Defense[RetainConfig, Weights]):
    """Gradient ascent on the forget set and fine-tuning on the retain set."""

    name = "grad_diff"
    kind = "weights"
    attacks = ("one_word", "prefill")
    paper = "Liu et al., Continual Learning and Private Unlearning, CoLLAs 2022, arXiv 2203.12817"
    needs = frozenset({"gradients", "forget_set", "retain_set"})
    fitted = True
    contract = ONE_STEP
    Config = RetainConfig

    def fit(
        self,
        vlm: VLM,
        data: FitData,
        *,
        seed: int = 0,
        progress: bool = True,
        run: TuningRun | None = None,
    ) -> Artifact:
        """Train; the model is restored afterwards. Same errors as `NPO.fit`."""
        fitting = Fitting(self.name, vlm, data, self.config, seed, progress, run)
        retain = partial(answer_term, "retain", self.config.retain_weight)
        return _trained(fitting, [_ascent, retain])

    def read(self, stored: Stored, config: RetainConfig) -> Weights:
        """The trained weights."""
        return Weights.read(stored)

    def parts(self, vlm: VLM, config: RetainConfig, fitted: Weights) -> Parts:
        """Installs the trained weights."""
        return Parts(attached=tuned(vlm, fitted))


@final
class KL(Defense[RetainConfig, Weights]):
    """Gradient ascent on the forget set; stays close to the base model on the retain set."""

    name = "kl"
    kind = "weights"
    attacks = ("one_word", "prefill")
    paper = (
        "Maini et al., TOFU: A Task of Fictitious Unlearning for LLMs, COLM 2024, arXiv 2401.06121"
    )
    needs = frozenset({"gradients", "forget_set", "retain_set"})
    fitted = True
    contract = ONE_STEP
    Config = RetainConfig

    def fit(
        self,
        vlm: VLM,
        data: FitData,
        *,
        seed: int = 0,
        progress: bool = True,
        run: TuningRun | None = None,
    ) -> Artifact:
        """Train; the model is restored afterwards. Same errors as `NPO.fit`."""
        fitting = Fitting(self.name, vlm, data, self.config, seed, progress, run)
        return _trained(fitting, [_ascent, partial(_kept, self.config.retain_weight)])

    def read(self, stored: Stored, config: RetainConfig) -> Weights:
        """The trained weights."""
        return Weights.read(stored)

    def parts(self, vlm: VLM, config: RetainConfig, fitted: Weights) -> Parts:
        """Installs the trained weights."""
        return Parts(attached=tuned(vlm, fitted))


def _trained(fitting: Fitting, terms: Sequence[Term], *, retain: bool = True) -> Artifact:
    sets: tuple[TuningSet, ...] = ("forget", "retain") if retain else ("forget",)
    fitting, rows = settled(fitting, fitting.rows(), *sets)
    sources = {"forget": rows.forget, "retain": rows.retain}
    if not retain:
        del sources["retain"]
    return train(fitting, choose(fitting.vlm, fitting.config), Method(sources, terms))


def _ascent(passes: Passes, batch: Batch) -> dict[str, Tensor]:
    forget = passes.cross_entropy(batch["forget"])
    return {"loss": -forget, "forget_cross_entropy": forget}


def _kept(weight: float, passes: Passes, batch: Batch) -> dict[str, Tensor]:
    with passes.reference():
        base, labels = passes.answer_logits(batch["retain"])
    away = divergence(base, passes.answer_logits(batch["retain"])[0], labels)
    return {"loss": weight * away, "divergence": away}
