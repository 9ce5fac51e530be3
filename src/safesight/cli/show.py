"""How commands print their results: help examples, JSON, the scorecard as tables.

Results go to standard output; `console` writes everything else to standard error, so that a
program can read the one while a person watches the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safesight.console import stdout
from safesight.grammar import UNDEFENDED
from safesight.grid import NO_BREAK, Column, Grid, print_grid

if TYPE_CHECKING:
    from rich.console import Console

    from safesight.compare import CorrectedRate, Delta, Overhead, Row, Scorecard
    from safesight.records import Record

__all__ = [
    "examples",
    "heading",
    "label",
    "print_beside",
    "print_json",
    "print_scorecard",
    "print_sentence",
    "rate",
    "write_json",
]


_HELP_WIDTH = 74
"""Columns for an example, so that a terminal of 80 does not break it."""


def examples(*lines: str) -> str:
    """The end of a help page: commands that can be copied."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  $ {_broken(line)}" for line in lines)])


def _broken(command: str) -> str:
    """A command over several lines if it is long, broken as a shell allows, before an option."""
    first, *more = re.split(r" (?=-)", command)
    lines = [first]
    for part in more:
        if len(f"{lines[-1]} {part}") <= _HELP_WIDTH:
            lines[-1] += f" {part}"
        else:
            lines.append(f"    {part}")
    return " \\\n".join(lines)


def print_json(value: Any) -> None:
    """Print JSON on standard output, for programs."""
    import json

    import typer

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_json(card: Record, target: str) -> None:
    """Write a scorecard or another record as JSON to a file, or to standard output for "-".

    Raises:
        StorageError: the file cannot be written.
    """
    import typer

    from safesight.files import write_text

    text = card.model_dump_json(indent=2)
    if target == "-":
        typer.echo(text)
    else:
        write_text(Path(target), text + "\n")


def print_sentence(text: str, console: Console, style: str = "") -> None:
    """Print plain text, broken between words where the width ends."""
    console.print(text, style=style, markup=False)


def print_scorecard(card: Scorecard, console: Console | None = None) -> None:
    """Print the verdict, the rates, the changes and the overhead.

    Args:
        card: What was measured.
        console: Where to print; standard output if not given.
    """
    from safesight.report import (
        budget_note,
        extremes_note,
        holm_note,
        interval_note,
        verdict_sentence,
    )

    console = console or stdout()
    console.print()
    print_sentence(verdict_sentence(card), console, "bold")
    console.print()
    print_grid(console, _rates(card, "Scorecard, percent"))
    _print_adaptive(card, console)
    _print_tries(card, console)
    if card.corrected:
        print_grid(console, _corrected(card))
        print_sentence(card.correction, console, "dim")
        console.print()
    if card.deltas:
        print_grid(console, _changes(card))
    if card.overhead:
        print_grid(console, _overheads(card.overhead))
    judges = ", ".join(sorted({row.judge for row in card.rows}))
    about = (
        f"With {interval_note(card)}; judge {judges}; {card.seconds:.0f} s. "
        "Invalid answers are excluded from attack success and refusal rates, and are wrong "
        "answers elsewhere."
    )
    notes = (about, holm_note(card), extremes_note(_shown(card)), budget_note(card))
    for note in (*notes, *card.provenance.notes):
        if note is not None:
            print_sentence(note, console, "dim")


def print_beside(title: str, lead: str, card: Scorecard, console: Console | None = None) -> None:
    """Print the rates of a second scorecard, of some arms under other tasks."""
    from safesight.report import extremes_note

    console = console or stdout()
    console.print()
    print_grid(console, _rates(card, f"{title}, percent"))
    _print_tries(card, console)
    for note in (lead, extremes_note(_shown(card))):
        if note is not None:
            print_sentence(note, console, "dim")


AXES = {
    "attack_success_rate": f"attack success{NO_BREAK}↓",
    "over_refusal_rate": f"over-refusal{NO_BREAK}↓",
    "benign_utility": f"benign right{NO_BREAK}↑",
    "ruled_utility": "ruled things right",
    "utility": f"utility{NO_BREAK}↑",
    "broken_rate": f"broken{NO_BREAK}↓",
}
"""The axes. Refusals of harmful requests are on none: less harm may come without them. Right
answers about things that the arm's method was told to forbid are neither good nor bad. Broken text
has one column over all tasks: it may occur in any."""


def heading(card: Scorecard, metric: str) -> str:
    """The name of an axis, which says what benign requests ask for if that is known."""
    from safesight.stats import HOW_TO

    asked = "benign how-to right" if card.request(metric) == HOW_TO else "benign right"
    return AXES[metric].replace("benign right", asked)


def label(arm: str) -> str:
    """The name of an arm in tables."""
    return "undefended" if arm == UNDEFENDED else arm


def rate(row: Row | None, n: int | None = None) -> tuple[str, ...]:
    """A cell with a rate in percent, its interval, and what is special about its answers.

    Args:
        row: The rate, if it was measured.
        n: The number of answers in the heading; a rate over fewer says so.
    """
    if row is None:
        return ("–",)
    value = "none judged" if row.value is None else f"{100 * row.value:.1f}"
    invalid = [f"{row.invalid} invalid"] if row.invalid else []
    fewer = [f"n {row.n}"] if n is not None and row.n != n else []
    return (value, f"{100 * row.low:.1f}–{100 * row.high:.1f}", *invalid, *fewer)


def _ratio(value: float | None, low: float | None, high: float | None, n: int) -> tuple[str, ...]:
    """A dash if nothing was timed: the defense refused none of its prompts, or all."""
    if value is None or not n:
        return ("–",)
    if low is None or high is None:
        return (f"{value:.2f}", f"n {n}")
    return (f"{value:.2f}", f"{low:.2f}–{high:.2f} n {n}")


_Cells = Callable[[str, str], Sequence[tuple[str, ...]]]


def _grid(
    title: str, card: Scorecard, rows: Sequence[Row], labels: list[str], cells: _Cells
) -> Grid:
    """One column per axis and task of the rates; `cells(metric, task)` fills it."""
    columns = []
    for metric in AXES:
        axis = heading(card, metric)
        found = [row for row in rows if row.metric == metric]
        for task in dict.fromkeys(row.task for row in found):
            n = str(_most(card, metric, task))
            tries = max(row.tries or 1 for row in found if row.task == task)
            name = f"{_task(task)}, best of {tries}" if tries > 1 else _task(task)
            columns.append(Column((axis, name, n), cells(metric, task), axis))
    return Grid(title, labels, columns, corner=("n",))


def _task(name: str) -> str:
    """The name of a task, as a heading that can be broken."""
    return "all tasks" if name == "all" else name.replace("_", " ").replace("+", " + ")


def _most(card: Scorecard, metric: str, task: str) -> int:
    """The number of answers behind most rates of a column."""
    rows = (*card.rows, *card.pooled)
    return max(row.n for row in rows if (row.metric, row.task) == (metric, task))


def _shown(card: Scorecard) -> list[Row]:
    """The rates that have a cell in the tables."""
    several = [row for found in card.best_of for row in found.rates]
    return [*_once(card), *several]


def _once(card: Scorecard) -> list[Row]:
    """Those of the main table: all but attack success after several tries."""
    several = {found.task for found in card.best_of}
    return [
        row
        for row in _of_axes(card)
        if row.metric != "attack_success_rate" or row.task not in several
    ]


def _of_axes(card: Scorecard) -> list[Row]:
    """The rates that are on an axis: of broken text over all tasks, of others over each.

    Attacks that know a defense have a table of their own.
    """
    return [
        row
        for row in (*card.rows, *card.pooled)
        if row.metric in AXES
        and (row.metric == "broken_rate") == (row.task == "all")
        and row.task not in card.adaptive_tasks
    ]


def _print_adaptive(card: Scorecard, console: Console) -> None:
    """The table of attacks that know the defense, beside the requests as they are."""
    from safesight.report import adaptive_columns, adaptive_notes, attack_of

    found = adaptive_columns(card)
    if not found:
        return
    columns = [
        Column(
            (_task(column.task), column.head, str(column.n)),
            [
                (*rate(row, column.n), *filter(None, [attack_of(row, column)]))
                for row in column.rows
            ],
            column.task,
        )
        for column in found
    ]
    labels = list(map(label, card.defenses))
    title = "Attack success against attackers who know the defense, percent"
    print_grid(console, Grid(title, labels, columns, corner=("n",)))
    for note in adaptive_notes(card):
        print_sentence(note, console, "dim")
    console.print()


def _print_tries(card: Scorecard, console: Console) -> None:
    """The table of attacks with several tries, and what it does not show."""
    from safesight.report import tries_columns, tries_notes

    found = tries_columns(card)
    if not found:
        return
    columns = [
        Column(
            (_task(column.task), column.head, str(column.n)),
            [rate(row, column.n) for row in column.rows],
            column.task,
        )
        for column in found
    ]
    labels = list(map(label, card.defenses))
    title = "Attack success by the number of tries, percent"
    print_grid(console, Grid(title, labels, columns, corner=("n",)))
    if notes := tries_notes(card):
        for note in notes:
            print_sentence(note, console, "dim")
        console.print()


def _rates(card: Scorecard, title: str) -> Grid:
    return _grid(
        title,
        card,
        _once(card),
        [label(name) for name in card.defenses],
        lambda metric, task: [
            rate(card.row(name, task, metric), _most(card, metric, task)) for name in card.defenses
        ],
    )


def _corrected(card: Scorecard) -> Grid:
    """Attack success as the judge sees it, and without the judge's errors."""
    found = {(rate.defense, rate.task): rate for rate in card.corrected}
    arms = list(dict.fromkeys(rate.defense for rate in card.corrected))
    columns = []
    for task in dict.fromkeys(rate.task for rate in card.corrected):
        name = _task(task)
        rates = [found.get((arm, task)) for arm in arms]
        raw = [("–",) if rate is None else (f"{100 * rate.raw:.1f}",) for rate in rates]
        columns.append(Column((name, "raw"), raw, name))
        columns.append(Column((name, "corrected"), list(map(_estimate, rates)), name))
    return Grid("Attack success, corrected, percent", list(map(label, arms)), columns)


def _estimate(rate: CorrectedRate | None) -> tuple[str, ...]:
    if rate is None:
        return ("–",)
    clipped = ["clipped"] if rate.clipped else []
    return (f"{100 * rate.value:.1f}", f"{100 * rate.low:.1f}–{100 * rate.high:.1f}", *clipped)


def _changes(card: Scorecard) -> Grid:
    found = dict.fromkeys((d.defense, d.against) for d in card.deltas)
    pairs = sorted(found, key=lambda pair: pair[1] != UNDEFENDED)
    marked = any(delta.significant for delta in card.deltas)
    return _grid(
        "Change on the same samples, points" + ("; * significant after Holm" if marked else ""),
        card,
        _of_axes(card),
        [name if against == UNDEFENDED else f"{name} vs. {against}" for name, against in pairs],
        lambda metric, task: [
            _change(card.delta(name, task, metric, against), _most(card, metric, task))
            for name, against in pairs
        ],
    )


def _change(delta: Delta | None, n: int) -> tuple[str, ...]:
    """A change in points, its interval, and the number of pairs if it is not the heading's."""
    if delta is None:
        return ("–",)
    pairs = [f"n {delta.n}"] if delta.n != n else []
    low, high = 100 * delta.low, 100 * delta.high
    mark = "*" if delta.significant else "" if delta.p_holm is None else " "  # digits in line
    digits = 1 if max(-low, high) < 10 else 0  # wide intervals need none, and would be too long
    return (f"{100 * delta.delta:+.1f}{mark}", f"{low:+.{digits}f},{high:+.{digits}f}", *pairs)


def _timed(arm: str) -> str:
    """The name of an arm that was timed; of the undefended model, its second arm was."""
    return f"{label(arm)} again" if arm == UNDEFENDED else label(arm)


def _overheads(costs: Sequence[Overhead]) -> Grid:
    columns = {
        "prefill": [
            _ratio(c.prefill_ratio, c.prefill_low, c.prefill_high, c.prefill_n) for c in costs
        ],
        "answer, benign": [_ratio(c.answer_ratio, c.answer_low, c.answer_high, c.n) for c in costs],
        "answer, refused": [
            _ratio(c.refused_answer_ratio, c.refused_answer_low, c.refused_answer_high, c.refused_n)
            for c in costs
        ],
        "peak memory": [
            _ratio(c.peak_memory_ratio, c.peak_memory_low, c.peak_memory_high, c.peak_memory_n)
            for c in costs
        ],
    }
    return Grid(
        "Overhead, ratio to undefended",
        [_timed(cost.defense) for cost in costs],
        [Column((head,), cells) for head, cells in columns.items()],
    )
