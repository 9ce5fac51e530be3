"""Refusal fine-tuning: the model is trained to refuse harmful requests about pictures.

Paper: Zong et al., "Safety Fine-Tuning at (Almost) No Cost: A Baseline for Vision Large Language
Models", ICML 2024, https://arxiv.org/abs/2402.02207 (VLGuard). Chen et al., "Safety Mirage", ICLR
2026, https://arxiv.org/abs/2503.11832, show what it learns: an association between a request's
first word and the refusal. It is included as the baseline for unlearning.

Where it acts: on the weights. With refusals r(x) for harmful x and answers y for benign ones, over
the tokens t of both,

    L = mean_t [ -log p(r_t | r_<t, x) ]  on forget rows,  the same of y on retain rows

Mixtures: `mixed` trains on every row of both sets, `posthoc` on every forget row and a number of
general ones. Reviews of the second paper ask for two variants: `first_words="balanced"` shuffles
the first words of all questions, regardless of which are refused, so that they carry no
information; `stop_loss` stops as soon as refusals are learnt.

What it cannot do: it teaches words, so a harmful request in other words may pass, and a benign one
in the words of harmful ones may be refused. Cost: one forward and backward pass per step.

Where we differ: LoRA by default; general rows come from the retain set, not from the data that the
model was first trained on; the balanced variant changes only the first word, so a closing question
mark still carries information.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, final

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.contract import ONE_STEP
from safesight.training.batches import IGNORE
from safesight.training.choice import choose
from safesight.training.losses import token_nll
from safesight.training.own_answers import AnswersConfig, settled
from safesight.training.run import Fitting, Method, TuningRun, train
from safesight.training.weights import Weights, tuned

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.models import VLM
    from safesight.training.passes import Batch, Passes
    from safesight.training.rows import TuningData
    from safesight.types import TuningSample

__all__ = ["SFT", "SFTConfig", "balanced_first_words", "learnt"]

_WINDOW = 5
"""Number of steps whose mean loss is compared with `stop_loss`."""


class SFTConfig(AnswersConfig):
    """Settings of refusal fine-tuning."""

    mixture: Literal["posthoc", "mixed"] = "posthoc"
    """Train on all refusals and on some or all general rows. Source: paper, which has both."""
    general: float = Field(1.68, ge=0)
    """General rows per refusal in posthoc. Source: secondary, 5,000 for VLGuard's 2,977."""
    first_words: Literal["as_given", "balanced"] = "as_given"
    """Whether the first words are shuffled. Source: ours."""
    stop_loss: FiniteFloat | None = Field(None, gt=0)
    """Stop when the mean refusal loss over five steps is below this. Source: ours."""
    refusals: tuple[str, ...] = Field(
        ("I'm sorry, but I can't help with that.", "I cannot assist with this request."),
        min_length=1,
    )
    """Refusals for rows that have none. Source: ours."""


def balanced_first_words(questions: Sequence[str], seed: int) -> list[str]:
    """The questions with their first words shuffled among them.

    The words and their counts stay the same; which question gets which word is random.

    Example:
        >>> balanced_first_words(["Share the plan.", "What is it?"], seed=1)
        ['What the plan.', 'Share is it?']
    """
    split = [question.strip().partition(" ") for question in questions]
    words = [first for first, _, _ in split]
    random.Random(seed).shuffle(words)
    return [f"{word}{gap}{rest}" for word, (_, gap, rest) in zip(words, split, strict=True)]


def learnt(log: Sequence[dict[str, float]], enough: float) -> bool:
    """Whether the mean refusal loss over the last steps that had refusals is below `enough`.

    Example:
        >>> learnt([{"refusal_loss": 0.1}] * 5, 0.2), learnt([{"refusal_loss": 0.1}] * 4, 0.2)
        (True, False)
    """
    losses = [entry["refusal_loss"] for entry in log if "refusal_loss" in entry][-_WINDOW:]
    return len(losses) == _WINDOW and sum(losses) / _WINDOW < enough


@final
class SFT(Defense[SFTConfig, Weights]):
    """Trains refusals for harmful requests and answers for benign ones.

    Example:
        >>> SFT(mixture="mixed").config.first_words
        'as_given'
    """

    name = "sft"
    kind = "weights"
    attacks = ("one_word", "prefill")
    paper = (
        "Zong et al., Safety Fine-Tuning at (Almost) No Cost: A Baseline for Vision Large "
        "Language Models, ICML 2024, arXiv 2402.02207"
    )
    needs = frozenset({"gradients", "forget_set", "retain_set"})
    fitted = True
    in_demo = True
    contract = ONE_STEP
    Config = SFTConfig

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
        fitting, given = settled(fitting, fitting.rows(), "retain")
        rows = _rows(given, self.config, seed)
        harmful = frozenset(row.id for row in rows if row.set == "forget")
        enough = self.config.stop_loss
        method = Method(
            {"rows": rows},
            [partial(_answers, harmful)],
            stop=None if enough is None else partial(learnt, enough=enough),
        )
        return train(fitting, choose(vlm, self.config), method)

    def read(self, stored: Stored, config: SFTConfig) -> Weights:
        """The trained weights."""
        return Weights.read(stored)

    def parts(self, vlm: VLM, config: SFTConfig, fitted: Weights) -> Parts:
        """Installs the trained weights."""
        return Parts(attached=tuned(vlm, fitted))


def _rows(data: TuningData, config: SFTConfig, seed: int) -> list[TuningSample]:
    """The training rows: refusals for forget rows, and general rows."""
    rng = random.Random(f"{seed}/general")
    refused = [
        replace(row, answer=row.refusal or rng.choice(config.refusals)) for row in data.forget
    ]
    general = list(data.retain)
    if config.mixture == "posthoc":
        count = min(len(general), round(config.general * len(refused)))
        general = rng.sample(general, count)
    rows = [*refused, *general]
    if config.first_words == "balanced":
        questions = balanced_first_words([row.question for row in rows], seed)
        rows = [
            replace(row, question=question) for row, question in zip(rows, questions, strict=True)
        ]
    return rows


def _answers(harmful: frozenset[str], passes: Passes, batch: Batch) -> dict[str, Tensor]:
    """The mean over all answer tokens of a batch, and over those of each kind of row."""
    rows = batch["rows"]
    logits, labels = passes.answer_logits(rows)
    nll, counts = token_nll(logits, labels).sum(dim=1), (labels[:, 1:] != IGNORE).sum(dim=1)
    parts = {"loss": nll.sum() / counts.sum().clamp(min=1)}
    refused = torch.tensor([row in harmful for row in rows["ids"]], device=nll.device)
    for name, chosen in (("refusal_loss", refused), ("general_loss", ~refused)):
        if bool(chosen.any()):
            parts[name] = nll[chosen].sum() / counts[chosen].sum().clamp(min=1)
    return parts
