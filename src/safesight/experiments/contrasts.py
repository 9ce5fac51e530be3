"""Rates of every condition and paired contrasts between them, computed from judged answers.

A contrast compares two conditions over the same samples, with the interval and test of
`safesight.stats`; p-values are Holm-corrected within each task and metric. No model is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from safesight.compare import metrics_of
from safesight.grid import Column, Grid
from safesight.stats import (
    ALPHA,
    Clusters,
    Metric,
    clusters_of,
    holm,
    paired_difference,
    relative_reduction,
)
from safesight.types import Verdict

__all__ = ["CONTRASTS", "Contrast", "Judged", "contrasts_of", "rates_of", "table_of"]


@dataclass(frozen=True)
class Judged:
    """One answer to one sample under one condition."""

    sample: str
    verdict: Verdict
    correct: bool
    words: int
    """Words in the answer."""
    tokens: int
    """Tokens in the prompt."""
    broken: bool | None = None
    """Whether the answer is broken text; None if the judge cannot tell, or in an older file."""
    group: str | None = None
    """What the sample is about; None if it does not say."""


@dataclass(frozen=True)
class Contrast:
    """One condition compared with another."""

    name: str
    condition: str
    against: str


CONTRASTS = (
    Contrast("total", "tool", "direct"),
    Contrast("= schema", "schema", "direct"),
    Contrast("+ text of the call", "text_trace", "schema"),
    Contrast("+ returned picture", "tool", "text_trace"),
    Contrast("picture without a call", "crop_no_call", "direct"),
    Contrast("own description", "describe", "direct"),
    Contrast("length", "length", "direct"),
    Contrast("blank picture", "tool_blank", "tool"),
    Contrast("noise", "tool_noise", "tool"),
    Contrast("benign picture", "tool_benign", "tool"),
    Contrast("unsafe picture", "tool_unsafe", "tool"),
    Contrast("error", "tool_error", "tool"),
)
"""The first is the sum of the next three; the last five vary what the tool returns."""

Cells = Mapping[tuple[str, str], Sequence[Judged]]
"""(task, condition) to its answers, with the same samples in the same order everywhere."""


def rates_of(cells: Cells) -> list[dict[str, Any]]:
    """Every rate that a task reports, per condition, with intervals over things."""
    rows = []
    for (task, name), answers in cells.items():
        for metric in _metrics(task):
            if not any(map(metric.known, answers)):
                continue
            rows.append(
                {
                    "task": task,
                    "condition": name,
                    "metric": metric.name,
                    **asdict(metric.rate(answers, _clusters(answers))),
                    "answer_words": _mean([a.words for a in answers]),
                    "prompt_tokens": _mean([a.tokens for a in answers]),
                }
            )
    return rows


def contrasts_of(cells: Cells, *, seed: int = 0) -> list[dict[str, Any]]:
    """Every contrast whose two conditions were run, by task and metric.

    A pair with an invalid answer is dropped, except where right answers are counted: it is wrong.
    """
    rows: list[dict[str, Any]] = []
    for task in dict.fromkeys(task for task, _ in cells):
        for metric in _metrics(task):
            found = [_contrast(cells, task, metric, each, seed) for each in CONTRASTS]
            present = [row for row in found if row is not None]
            for row, p in zip(present, holm([r["p_value"] for r in present]), strict=True):
                row["p_holm"] = p
            rows += present
    return rows


def _clusters(answers: Sequence[Judged]) -> Clusters | None:
    return clusters_of(answer.group or (answer.sample,) for answer in answers)


def _metrics(task: str) -> list[Metric]:
    """Those that a task reports; nothing is fitted here, so no request is ruled out."""
    return [metric for metric in metrics_of(task) if not metric.ruled]


def _contrast(
    cells: Cells, task: str, metric: Metric, contrast: Contrast, seed: int
) -> dict[str, Any] | None:
    keys = (task, contrast.against), (task, contrast.condition)
    if any(key not in cells for key in keys):
        return None
    judged = [
        pair
        for pair in zip(*(cells[key] for key in keys), strict=True)
        if None not in map(metric.hit, pair)
    ]
    if not judged:
        return None
    before, after = ([bool(metric.hit(a)) for a in side] for side in zip(*judged, strict=True))
    clusters = _clusters([answer for _, answer in judged])
    row = {"task": task, "metric": metric.name, **asdict(contrast)}
    row |= asdict(paired_difference(before, after, clusters, seed=seed))
    if contrast.name == "total" and metric.name == "attack_success_rate" and any(before):
        less = relative_reduction(before, after, clusters, seed=seed)
        row["relative_reduction"] = asdict(less)
    return row


def table_of(contrasts: Sequence[Mapping[str, Any]]) -> Grid:
    """One row per contrast, one column per task and metric: changes in points with intervals."""
    columns = list(dict.fromkeys((row["task"], row["metric"]) for row in contrasts))
    cells = {(row["name"], row["task"], row["metric"]): row for row in contrasts}
    shown = [
        contrast
        for contrast in CONTRASTS
        if any((contrast.name, *column) in cells for column in columns)
    ]
    between = [(contrast.condition, f"- {contrast.against}") for contrast in shown]
    found = [
        Column(
            (task.replace("_", " "), metric.replace("_", " ")),
            [_cell(cells.get((contrast.name, task, metric))) for contrast in shown],
            task,
        )
        for task, metric in columns
    ]
    return Grid(
        f"Contrasts in points, paired; * p < {ALPHA:g} after Holm",
        [contrast.name for contrast in shown],
        [Column(("between",), between), *found],
        corner=("contrast",),
    )


def _cell(row: Mapping[str, Any] | None) -> tuple[str, ...]:
    if row is None:
        return ("",)
    delta, low, high = (100 * row[key] for key in ("delta", "low", "high"))
    mark = " *" if row["p_holm"] < ALPHA else ""
    return f"{delta:+.1f}{mark}", f"{low:+.1f} to {high:+.1f}"


def _mean(values: Sequence[int]) -> float:
    return round(sum(values) / len(values), 2) if values else 0.0
