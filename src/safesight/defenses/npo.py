"""NPO: unlearning that makes harmful answers less likely, with a gradient that fades once they are.

Paper: Chen et al., "Safety Mirage: How Spurious Correlations Undermine VLM Safety Fine-Tuning and
Can Be Mitigated by Machine Unlearning", ICLR 2026, https://arxiv.org/abs/2503.11832; the loss is
from Zhang et al., "Negative Preference Optimization", COLM 2024, https://arxiv.org/abs/2404.05868.
No refusal is taught, so no first word can become associated with one.

Where it acts: on the weights. With NLL(theta; x) the negative log-likelihood of the harmful answer
(or of the question, or of both), averaged or summed over tokens, and theta_0 the original model,

    D_f(x) = NLL(theta; x) - NLL(theta_0; x)              x in the forget set
    D_r(x) = NLL(theta; x) - NLL(theta_0; x)              x in the retain set
    L_f = -(2 / beta) mean_x log sigmoid( beta D_f(x))
    L_r = +(2 / beta) mean_x log sigmoid( beta D_r(x))
    L   = forget_weight L_f + retain_alpha L_r + retain_weight CE(retain)

The gradient of L_f is 2 sigmoid(-beta D_f) times that of D_f: it fades as forgetting succeeds,
which keeps the model from collapsing as it does under plain gradient ascent. L_r is a second,
adaptive fine-tuning term; the retain rows of L_r and of CE are drawn independently.

Cost: three forward and backward passes per step (two without L_r), and one forward pass of theta_0
for each row, cached for the rest of the run.

What it cannot do: when one answer becomes unlikely, another takes its place, often one that is
irrelevant or broken. Report irrelevant answers along with harmful ones.

Where we differ: the sigmoid takes each row's own D, where the authors' code uses the batch mean
(`per="batch"`); rows are drawn so that no set runs out before another. The paper's formula sums
over tokens, and reports say it unlearns queries; its code averages over answer tokens, which is the
default here. A beta tuned for one reduction does not suit the other.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, final

from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.contract import ONE_STEP
from safesight.training.batches import IGNORE, Rows
from safesight.training.choice import choose
from safesight.training.own_answers import AnswersConfig, settled
from safesight.training.passes import answer_term, labels_of
from safesight.training.run import Fitting, Method, TuningRun, train
from safesight.training.weights import Weights, tuned

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.models import VLM
    from safesight.training.passes import Batch, Passes, Target, Term
    from safesight.types import TuningSet

__all__ = ["NPO", "NPOConfig", "forget_loss", "retain_loss", "shift"]


class NPOConfig(AnswersConfig):
    """Settings of NPO."""

    beta: FiniteFloat = Field(0.9, gt=0)
    """How quickly the gradient fades. Source: authors' code, its released run."""
    reduction: Literal["mean", "sum"] = "mean"
    """Mean or sum over the tokens of a row. Source: authors' code; the paper's formula sums."""
    per: Literal["row", "batch"] = "row"
    """Take the sigmoid of each row's D or the batch's. Source: ours; authors' code: the batch's."""
    target: Literal["answer", "query", "both"] = "answer"
    """Which tokens of a forget row are unlearned. Source: authors' code."""
    forget_weight: FiniteFloat = Field(1.0, ge=0)
    """Weight of L_f. Source: authors' code."""
    retain_alpha: FiniteFloat = Field(1.0, ge=0)
    """Weight of L_r; 0 disables it. Source: authors' code, its released run."""
    retain_weight: FiniteFloat = Field(1.0, ge=0)
    """Weight of the cross-entropy on retain rows. Source: authors' code."""


def shift(
    now: Tensor, base: Tensor, counts: Tensor, *, mean: bool = True, batch: bool = False
) -> Tensor:
    """D: how far negative log-likelihoods have risen; shape B, or 1 for a whole batch.

    Args:
        now: NLL(theta) of each row, summed over its tokens; B.
        base: The same under theta_0; B.
        counts: Number of tokens of each row; B.
        mean: Average over tokens instead of summing.
        batch: Return one value for the whole batch.

    Example:
        >>> import torch
        >>> now, base = torch.tensor([4.0, 9.0]), torch.tensor([2.0, 3.0])
        >>> counts = torch.tensor([2, 3])
        >>> shift(now, base, counts), shift(now, base, counts, batch=True)
        (tensor([1., 2.]), tensor([1.6000]))
    """
    rise = now - base
    if batch:
        whole = rise.sum() / counts.sum().clamp(min=1) if mean else rise.mean()
        return whole[None]
    return rise / counts.clamp(min=1) if mean else rise


def forget_loss(rise: Tensor, beta: float) -> Tensor:
    """L_f of D_f (B): -(2 / beta) mean log sigmoid(beta D). Its slope at 0 is -1.

    Example:
        >>> import torch
        >>> forget_loss(torch.zeros(2), 2.0)
        tensor(0.6931)
    """
    return -(2 / beta) * F.logsigmoid(beta * rise).mean()


def retain_loss(rise: Tensor, beta: float) -> Tensor:
    """L_r of D_r (B): +(2 / beta) mean log sigmoid(beta D). Unbounded below."""
    return -forget_loss(rise, beta)


@final
class NPO(Defense[NPOConfig, Weights]):
    """Makes harmful answers unlikely, with a gradient that fades.

    Example:
        >>> NPO(reduction="sum", beta=0.1).config.target
        'answer'
    """

    name = "npo"
    headline = ()
    kind = "weights"
    attacks = ("one_word", "prefill")
    paper = (
        "Chen et al., Safety Mirage: How Spurious Correlations Undermine VLM Safety Fine-Tuning "
        "and Can Be Mitigated by Machine Unlearning, ICLR 2026, arXiv 2503.11832"
    )
    needs = frozenset({"gradients", "forget_set", "retain_set"})
    fitted = True
    in_demo = True
    contract = ONE_STEP
    Config = NPOConfig

    def fit(
        self,
        vlm: VLM,
        data: FitData,
        *,
        seed: int = 0,
        progress: bool = True,
        run: TuningRun | None = None,
    ) -> Artifact:
        """Train; the model is restored afterwards.

        Raises:
            InputError: there are no rows, or a row is invalid.
            TrainingError: the run diverged or cannot be resumed.
        """
        fitting = Fitting(self.name, vlm, data, self.config, seed, progress, run)
        unlearned: tuple[TuningSet, ...] = () if self.config.target == "query" else ("forget",)
        fitting, rows = settled(fitting, fitting.rows(), "retain", *unlearned)
        sources = {"forget": rows.forget, "retain": rows.retain}
        if self.config.retain_alpha:
            sources["again"] = rows.retain
        method = Method(sources, _terms(self.config), queries=self.config.target != "answer")
        return train(fitting, choose(vlm, self.config), method)

    def read(self, stored: Stored, config: NPOConfig) -> Weights:
        """The trained weights."""
        return Weights.read(stored)

    def parts(self, vlm: VLM, config: NPOConfig, fitted: Weights) -> Parts:
        """Installs the trained weights."""
        return Parts(attached=tuned(vlm, fitted))


def _terms(config: NPOConfig) -> list[Term]:
    """The terms of L."""
    terms: list[Term] = [
        partial(_forget, config),
        partial(answer_term, "retain", config.retain_weight),
    ]
    if config.retain_alpha:
        terms.append(partial(_retain, config))
    return terms


def _forget(config: NPOConfig, passes: Passes, batch: Batch) -> dict[str, Tensor]:
    """forget_weight L_f."""
    rows = batch["forget"]
    with passes.outputs_of_last_block() as states:
        rise = _shift(config, passes, rows, config.target)
    loss = forget_loss(rise, config.beta)
    last = states[-1]
    # Gemma 4 runs its last blocks on the tokens alone whose logits are asked for.
    named = (labels_of(rows, config.target) != IGNORE)[:, -last.shape[1] :]
    return {
        "loss": config.forget_weight * loss,
        "forget_loss": loss,
        "forget_shift": rise.mean(),
        "forget_norm": last.float().norm(dim=-1)[named.to(last.device)].mean(),
    }


def _retain(config: NPOConfig, passes: Passes, batch: Batch) -> dict[str, Tensor]:
    """retain_alpha L_r."""
    rise = _shift(config, passes, batch["again"], "answer")
    loss = retain_loss(rise, config.beta)
    return {"loss": config.retain_alpha * loss, "retain_loss": loss, "retain_shift": rise.mean()}


def _shift(config: NPOConfig, passes: Passes, rows: Rows, target: Target) -> Tensor:
    """D for these rows."""

    def summed(rows: Rows) -> Tensor:
        return passes.row_losses(rows, target, mean=False)

    base = passes.remembered(f"{target}_nll", rows, summed)
    counts = (labels_of(rows, target)[:, 1:] != IGNORE).sum(dim=1)
    return shift(
        summed(rows), base, counts, mean=config.reduction == "mean", batch=config.per == "batch"
    )
