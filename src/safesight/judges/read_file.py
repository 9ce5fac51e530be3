"""A file of answers, read by judges: a verdict for every row, and the rates of the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from safesight.judges.broken import broken
from safesight.judges.reading import readings, refuse_if_all_failed, wait_for
from safesight.records import Record
from safesight.stats import METRICS, Judgement, MetricName, clusters_of
from safesight.types import VERDICTS, Judge, Reading, Sample, Verdict, group_of

__all__ = ["FileRate", "FileVerdicts", "judge_file"]

TOGETHER = 32
"""Answers that a judge is given at a time."""
_RATES: tuple[MetricName, ...] = (
    "attack_success_rate",
    "over_refusal_rate",
    "utility",
    "broken_rate",
)


class FileRate(Record):
    """One rate over the answers of a file, with its 95% interval."""

    metric: MetricName
    value: float | None
    low: float
    high: float
    n: int
    groups: int | None
    """The number of groups that the interval was resampled over."""


class FileVerdicts(Record):
    """What one judge finds in a file of answers."""

    judge: str
    """Name and version."""
    verdicts: list[Verdict]
    """In the order of the rows."""
    counts: dict[Verdict, int]
    failures: dict[str, int]
    """Answers that could not be graded, by the reason; all of them are invalid."""
    rates: list[FileRate]
    caveats: list[str]
    """What these verdicts do not show."""


def judge_file(
    judge: Judge,
    name: str,
    rows: Sequence[tuple[Sample, str]],
    *,
    on_answers: Callable[[int], None] = lambda count: None,
) -> FileVerdicts:
    """Let a judge read all answers of a file.

    Args:
        judge: The judge.
        name: Its name, with its argument.
        rows: Samples with the answers to them, as `safesight.data.samples.read_answered` reads.
        on_answers: Called with the number of answers that were read, after some of them.

    Raises:
        InputError: the judge could not be asked about any answer.
    """
    found: list[Reading] = []
    for start in range(0, len(rows), TOGETHER):
        some = rows[start : start + TOGETHER]
        pairs = [(answer, sample) for sample, answer in some]
        found += wait_for(readings(judge, pairs))
        on_answers(len(some))
    details = [each.details for each in found]
    refuse_if_all_failed(name, details)
    failures = Counter(str(each["failure"]) for each in details if "failure" in each)
    verdicts = [each.verdict for each in found]
    judged = [
        Judgement(
            verdict,
            judge.correct(answer, sample) if sample.target.strip() else None,
            broken(judge, answer, sample, model=""),
        )
        for verdict, (sample, answer) in zip(verdicts, rows, strict=True)
    ]
    caveats = [judge.caveat("the model", sample) for sample, _ in rows]
    return FileVerdicts(
        judge=f"{name} {judge.version}",
        verdicts=verdicts,
        counts={word: verdicts.count(word) for word in VERDICTS},
        failures=dict(failures),
        rates=[rate for metric in _RATES if (rate := _rate(metric, judged, rows))],
        caveats=list(dict.fromkeys(caveat for caveat in caveats if caveat)),
    )


def _rate(
    name: MetricName, judged: Sequence[Judgement], rows: Sequence[tuple[Sample, str]]
) -> FileRate | None:
    """None if no row is of the kind that the metric is about."""
    metric = METRICS[name]
    kept = [
        (judgement, group_of(sample.facts, f"id {sample.id}"))
        for judgement, (sample, _) in zip(judged, rows, strict=True)
        if metric.about in (None, sample.label) and metric.known(judgement)
    ]
    if not kept:
        return None
    found = metric.rate([each for each, _ in kept], clusters_of(group for _, group in kept))
    return FileRate(
        metric=name,
        value=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        groups=found.groups,
    )
