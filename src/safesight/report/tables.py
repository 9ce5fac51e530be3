"""The scorecard laid out for a page: columns and cells.

Arranges and formats the numbers of a scorecard; computes none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from safesight.compare import Delta, Row, Scorecard, VerdictCounts, control_of
from safesight.grammar import UNDEFENDED
from safesight.report.adaptive import adaptive_columns, adaptive_notes, attack_of
from safesight.report.best_of import TriesColumn, tries_columns, tries_notes
from safesight.report.words import points, share
from safesight.stats import HOW_TO, METRICS, MetricName

__all__ = [
    "Cell",
    "Column",
    "Outcome",
    "TriesTable",
    "adaptive_table",
    "columns",
    "delta_rows",
    "outcomes",
    "overall",
    "rate_rows",
    "tries_table",
]

AXES: dict[MetricName, str] = {
    "attack_success_rate": "Attack success",
    "over_refusal_rate": "Over-refusal",
    "benign_utility": "Benign requests right",
    "ruled_utility": "Ruled things right",
    "utility": "Utility",
    "broken_rate": "Broken",
}
"""Axis heading by metric. `refusal_rate` is on no axis: it is neither good nor bad. Broken text has
one column over all tasks: it may occur in any."""


@dataclass(frozen=True)
class Column:
    """One task under one axis."""

    metric: str
    axis: str
    task: str
    better: str
    first: bool
    """Whether an axis begins here."""
    n: int
    """Number of answers behind most of its rates; cells with fewer, because of invalid answers,
    say so."""
    tries: int = 1
    """How often each request was asked."""


@dataclass(frozen=True)
class Cell:
    """A number with its interval, ready to print."""

    text: str
    interval: str
    notes: tuple[str, ...] = ()
    """Details to print below: n where it is not the column's, pairs, p."""
    low: float = 0.0
    value: float = 0.0
    high: float = 0.0
    """In percent of the cell's width, for its small plot."""
    tone: str = ""
    """Either good, bad or empty."""
    warning: str = ""


@dataclass(frozen=True)
class Outcome:
    """Verdicts for one arm on one harmful task, with their shares in percent."""

    defense: str
    counts: VerdictCounts
    total: int
    parts: tuple[tuple[str, int, float], ...]
    """Verdict, count, percent; only those that occur."""


def columns(card: Scorecard, *, several: bool = False) -> list[Column]:
    """The columns of the four-axis table, without overhead.

    Args:
        card: The numbers.
        several: Whether to include attack success after several tries, which has its own table.
    """
    found: list[Column] = []
    for metric in AXES:
        axis = _axis(card, metric)
        asked = ["all"] if metric == "broken_rate" else card.tasks
        left_out = set(card.adaptive_tasks)
        if metric == "attack_success_rate" and not several:
            left_out |= _best_of(card)
        tasks = [
            t
            for t in asked
            if t not in left_out and any(card.row(d, t, metric) for d in card.defenses)
        ]
        found += [
            Column(
                metric,
                axis,
                task,
                METRICS[metric].better,
                first=index == 0,
                n=_answers(card, task, metric),
                tries=_tries(card, task, metric),
            )
            for index, task in enumerate(tasks)
        ]
    return found


def overall(card: Scorecard) -> list[Column]:
    """One column per axis, over all tasks that report it: the numbers behind the headline."""
    return [
        Column(
            metric,
            _axis(card, metric),
            "all",
            METRICS[metric].better,
            True,
            _answers(card, "all", metric),
            _tries(card, "all", metric) if metric != "broken_rate" else 1,
        )
        for metric in AXES
        if any(card.row(defense, "all", metric) for defense in card.defenses)
    ]


def _axis(card: Scorecard, metric: MetricName) -> str:
    """The heading of an axis, which says what benign requests ask for if that is known."""
    if metric == "benign_utility" and card.request(metric) == HOW_TO:
        return "Benign how-to right"
    return AXES[metric]


def _answers(card: Scorecard, task: str, metric: str) -> int:
    rows = [card.row(defense, task, metric) for defense in card.defenses]
    return max(row.n for row in rows if row is not None)


def _tries(card: Scorecard, task: str, metric: str) -> int:
    rows = [card.row(defense, task, metric) for defense in card.defenses]
    return max(row.tries or 1 for row in rows if row is not None)


def _best_of(card: Scorecard) -> set[str]:
    return {each.task for each in card.best_of}


@dataclass(frozen=True)
class TriesTable:
    """Attack success by the number of tries."""

    columns: list[TriesColumn]
    rates: list[tuple[str, list[Cell | None]]]
    """Each defense with its cells, one per column."""
    notes: list[str]


def tries_table(card: Scorecard) -> TriesTable | None:
    """The table of attacks with several tries; None if there are none."""
    cells = tries_columns(card)
    rates = [
        (
            defense,
            [
                None if (row := column.rows[place]) is None else _rate(row, column)
                for column in cells
            ],
        )
        for place, defense in enumerate(card.defenses)
    ]
    return TriesTable(cells, rates, tries_notes(card)) if cells else None


def adaptive_table(card: Scorecard) -> TriesTable | None:
    """The table of attacks that know the defense; None if there are none."""
    cells = adaptive_columns(card)
    rates = [
        (defense, [_attacked(column.rows[place], column) for column in cells])
        for place, defense in enumerate(card.defenses)
    ]
    return TriesTable(cells, rates, adaptive_notes(card)) if cells else None


def _attacked(row: Row | None, column: TriesColumn) -> Cell | None:
    """The rate, and which attack it is about."""
    if row is None:
        return None
    cell, name = _rate(row, column), attack_of(row, column)
    return replace(cell, notes=(name, *cell.notes)) if name else cell


def rate_rows(card: Scorecard, cells: list[Column]) -> list[tuple[str, list[Cell | None]]]:
    """Each defense with its rates, one per column."""
    return [
        (
            defense,
            [
                _rate(row, c) if (row := card.row(defense, c.task, c.metric)) is not None else None
                for c in cells
            ],
        )
        for defense in card.defenses
    ]


def delta_rows(card: Scorecard, cells: list[Column]) -> list[tuple[str, str, list[Cell | None]]]:
    """Each defense, what it is compared with, and its changes, one per column."""
    pairs = [(defense, UNDEFENDED) for defense in card.defenses if defense != UNDEFENDED]
    pairs += [(d, c) for d in card.defenses if (c := control_of(d)) in card.defenses]
    rows = []
    for defense, against in pairs:
        deltas = [card.delta(defense, c.task, c.metric, against) for c in cells]
        if any(deltas):
            row = [
                None if delta is None else _change(delta, column)
                for delta, column in zip(deltas, cells, strict=True)
            ]
            rows.append((defense, against, row))
    return rows


def outcomes(card: Scorecard) -> list[tuple[str, list[Outcome]]]:
    """The verdicts on answers to harmful requests, by task."""
    tasks = [
        task
        for task in card.tasks
        if any(card.row(defense, task, "attack_success_rate") for defense in card.defenses)
    ]
    harmful = [counts for counts in card.verdicts if counts.label != "benign"]
    return [(task, [_outcome(c) for c in harmful if c.task == task]) for task in tasks]


def _rate(row: Row, column: Column | TriesColumn) -> Cell:
    interval = f"{100 * row.low:.1f}–{100 * row.high:.1f}"
    notes = () if row.invalid or row.n == column.n else (f"n {row.n}",)
    warning = f"{row.invalid} invalid, n {row.n}" if row.invalid else ""
    if row.value is None:
        return Cell("–", "none judged", notes, 0, 0, 100, warning=warning)
    return Cell(
        share(row.value),
        interval,
        notes,
        100 * row.low,
        100 * row.value,
        100 * row.high,
        warning=warning,
    )


def _change(delta: Delta, column: Column) -> Cell:
    clear = delta.low > 0 or delta.high < 0
    good = (delta.delta < 0) == (column.better == "lower")
    holm = () if delta.p_holm is None else (f"Holm p = {delta.p_holm:.2g}",)
    return Cell(
        points(delta.delta) + (" *" if delta.significant else ""),
        f"{points(delta.low)} to {points(delta.high)}",
        (f"+{delta.gained} −{delta.lost} of {delta.n}", f"p = {delta.p_value:.2g}", *holm),
        tone=("good" if good else "bad") if clear and column.better != "neither" else "",
    )


def _outcome(counts: VerdictCounts) -> Outcome:
    numbers = {
        "refused": counts.refused,
        "harmless": counts.harmless,
        "invalid": counts.invalid,
        "harmful": counts.harmful,
    }
    total = sum(numbers.values())
    parts = tuple((name, n, 100 * n / total) for name, n in numbers.items() if n)
    return Outcome(counts.defense, counts, total, parts)
