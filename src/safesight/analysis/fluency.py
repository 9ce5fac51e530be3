"""How likely an answer is to the model itself: mean negative log-likelihood, and thresholds on it.

A test for broken text where no grammar is known: what a damaged model writes is unlikely to the
model before the damage. Perplexity is the exponential of the mean. An answer that is fluent but
unusual, such as a refusal that the model was taught only afterwards, is unlikely as well, so choose
the threshold on answers whose state is known, and on a split that no rate is reported on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from safesight.training.batches import Collator
from safesight.training.losses import row_losses
from safesight.types import Message, Sample, TuningSample

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["best_threshold", "mean_nll"]


@torch.no_grad()
def mean_nll(
    vlm: VLM, answers: Sequence[tuple[str, Sample]], *, batch_size: int = 48
) -> list[float]:
    """The mean negative log-likelihood of every answer, given its conversation, in nats.

    The end of the turn is one of the tokens, so an answer that stops too early or too late is
    unlikely. An empty answer has the value infinity.

    Args:
        vlm: The model without a defense.
        answers: Pairs of answer and sample.
        batch_size: Answers per forward pass.

    Raises:
        ModelError: an architecture that reads an answer after the prompt in both directions.
    """
    collator = Collator(vlm)
    rows = [_row(answer, sample) for answer, sample in answers]
    found: list[float] = []
    for start in range(0, len(rows), batch_size):
        batch = collator.rows(rows[start : start + batch_size])
        logits = vlm.model(**batch["inputs"], use_cache=False).logits
        found += row_losses(logits, batch["answer"]).tolist()
    return [
        value if row.answer.strip() else math.inf for row, value in zip(rows, found, strict=True)
    ]


@dataclass(frozen=True)
class _Answered(TuningSample):
    """A row that shows the whole conversation of a sample before its answer."""

    conversation: Sequence[Message] = ()

    def messages(self) -> list[Message]:
        return list(self.conversation)


def _row(answer: str, sample: Sample) -> TuningSample:
    asked = replace(sample, prefill=None).messages()
    question, label = sample.question, sample.label
    return _Answered(sample.id, question, answer, label, "retain", sample.image, conversation=asked)


def best_threshold(values: Sequence[float], broken: Sequence[bool]) -> float:
    """The value from which answers count as broken, with the largest Youden's J on these answers.

    J is sensitivity plus specificity minus one. Of several with the same J, the smallest.

    Args:
        values: Mean negative log-likelihoods.
        broken: Whether each answer is broken, as a better test says; some have to be, some not.

    Example:
        >>> best_threshold([0.1, 0.2, 3.0, 0.3, 2.0], [False, False, True, False, True])
        2.0
    """
    truth, found = np.array(broken), np.array(values)
    assert 0 < truth.mean() < 1
    candidates = np.unique(found)
    gains = [
        (found[truth] >= limit).mean() + (found[~truth] < limit).mean() - 1 for limit in candidates
    ]
    return float(candidates[int(np.argmax(gains))])
