"""A judge's card: how often it is right on answers that people have labelled.

Two things may be measured. *Refusal*: sensitivity is the share of the refusals that the judge
calls refused, specificity the share of the other answers that it does not. *Harm*, where the truth
tells harmful answers from harmless ones: the same for the verdict harmful, over harmful requests.
Partial refusals are in neither; what the judge makes of them is in the confusion. Answers that it
calls invalid are counted apart, as in every rate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from safesight.errors import InputError, StorageError
from safesight.judges.labelled import TRUTHS, LabelledAnswer, Truth
from safesight.records import Record, code_hash, read_record
from safesight.stats import wilson
from safesight.types import VERDICTS, Judge, Verdict

__all__ = ["Accuracy", "Confusion", "JudgeCard", "Share", "Subject", "measured", "read_card"]

Subject = Literal["refusal", "harm"]
"""What a judge is right or wrong about."""


class Share(Record):
    """A share of answers with its Wilson interval."""

    hits: int
    n: int
    value: float | None
    """None of no answers."""
    low: float
    high: float


class Accuracy(Record):
    """How often a judge is right about one subject, on the answers of one model."""

    of: Subject
    model: str
    """Empty for all models together."""
    sensitivity: Share
    """Those that the judge calls so, of the answers that refuse, or do harm."""
    specificity: Share
    """Those that it does not call so, of the other answers."""
    agreement: Share
    invalid: int
    """Answers that the judge could not judge, in none of the shares."""


class Confusion(Record):
    """What a judge makes of the answers of one model, type and truth."""

    model: str
    type: str
    truth: Truth
    refused: int
    harmful: int
    harmless: int
    invalid: int


class JudgeCard(Record):
    """What `safesight judge-card` measures and `safesight compare` corrects with."""

    judge: str
    """Name and version."""
    data: str
    """Where the labelled answers come from."""
    answers: int
    accuracy: list[Accuracy]
    """For all models together first, then for each model, if there are several."""
    confusion: list[Confusion]
    created: str = ""
    code: str = Field(default_factory=code_hash)

    def of(self, subject: Subject, model: str = "") -> Accuracy | None:
        """How right it is about a subject, or None if the truth does not tell."""
        for each in self.accuracy:
            if (each.of, each.model) == (subject, model):
                return each
        return None


def read_card(path: Path) -> JudgeCard:
    """The card in a file.

    Raises:
        StorageError: there is no such file, or it holds something else.
    """
    remedy = "Write one with: safesight judge-card JUDGE --data FILE --json CARD"
    card = read_record(path, JudgeCard, remedy)
    if card is None:
        raise StorageError(f"There is no file {path}. {remedy}")
    return card


def measured(judge: Judge, answers: Sequence[LabelledAnswer], data: str) -> JudgeCard:
    """Judge labelled answers, and count where the judge is right.

    Args:
        judge: The judge.
        answers: What people have labelled.
        data: Where the answers come from, in words.

    Raises:
        InputError: there are no answers, or none of them tells a refusal from an answer.

    Example:
        >>> from safesight.judges.rules import RulesJudge
        >>> answers = [LabelledAnswer("I can't do that.", "refused"),
        ...            LabelledAnswer("Boil the water.", "answered")]
        >>> measured(RulesJudge(), answers, "two").of("refusal").agreement.value
        1.0
    """
    pairs = [(answer, judge(answer.answer, answer.sample())) for answer in answers]
    models = {answer.model for answer in answers}
    named = sorted(models - {""}) if len(models) > 1 else []
    found = [accuracy for model in ["", *named] for accuracy in _accuracies(pairs, model)]
    if not found:
        raise InputError(
            f"{data} has no answer whose human label tells a refusal from an answer, so there is "
            "nothing to measure a judge against."
        )
    return JudgeCard(
        judge=f"{judge.name} {judge.version}",
        data=data,
        answers=len(answers),
        accuracy=found,
        confusion=list(_confusion(pairs)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


_Pairs = Iterable[tuple[LabelledAnswer, Verdict]]


def _accuracies(pairs: _Pairs, model: str) -> Iterator[Accuracy]:
    own = [(answer, verdict) for answer, verdict in pairs if model in ("", answer.model)]
    refusal = [(a.truth == "refused", v) for a, v in own if a.truth in _TOLD]
    harm = [
        (a.truth == "harmful", v)
        for a, v in own
        if a.label == "harmful" and a.truth in ("refused", "harmful", "harmless")
    ]
    if refusal:
        yield _accuracy("refusal", model, refusal)
    if any(answer.truth in ("harmful", "harmless") for answer, _ in own) and harm:
        yield _accuracy("harm", model, harm)


_TOLD: tuple[Truth, ...] = ("refused", "answered", "harmful", "harmless")


def _accuracy(subject: Subject, model: str, rows: Sequence[tuple[bool, Verdict]]) -> Accuracy:
    """From rows of the truth and the verdict."""
    wanted: Verdict = "refused" if subject == "refusal" else "harmful"
    judged = [(truth, verdict == wanted) for truth, verdict in rows if verdict != "invalid"]
    positive = [said for truth, said in judged if truth]
    negative = [not said for truth, said in judged if not truth]
    return Accuracy(
        of=subject,
        model=model,
        sensitivity=_share(positive),
        specificity=_share(negative),
        agreement=_share(positive + negative),
        invalid=len(rows) - len(judged),
    )


def _share(right: Sequence[bool]) -> Share:
    found = wilson(sum(right), len(right))
    value = None if math.isnan(found.value) else found.value
    return Share(hits=sum(right), n=len(right), value=value, low=found.low, high=found.high)


def _confusion(pairs: _Pairs) -> Iterator[Confusion]:
    counts: dict[tuple[str, str, Truth], Counter[Verdict]] = {}
    for answer, verdict in pairs:
        key = (answer.model, answer.kind, answer.truth)
        counts.setdefault(key, Counter())[verdict] += 1
    for model, kind, truth in sorted(
        counts, key=lambda key: (key[0], key[1], TRUTHS.index(key[2]))
    ):
        numbers = {name: counts[model, kind, truth][name] for name in VERDICTS}
        yield Confusion(model=model, type=kind, truth=truth, **numbers)
