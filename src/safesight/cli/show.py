"""How commands print their results: help examples, JSON, the scorecard as a table.

Results go to standard output; `console` writes everything else to standard error, so that a
program can read the one while a person watches the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from safesight.compare import Delta, Overhead, Row, Scorecard

__all__ = [
    "examples",
    "print_beside",
    "print_json",
    "print_scorecard",
    "stdout",
    "write_json",
]

_WIDE = 160
"""Columns of what is piped somewhere, where no window sets a width."""


def examples(*lines: str) -> str:
    """The end of a help page: commands that can be copied."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  $ {line}" for line in lines)])


def stdout() -> Console:
    """For results."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(highlight=False, width=_WIDE)


def print_json(value: Any) -> None:
    """JSON on standard output, for programs."""
    import json

    import typer

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_json(card: Scorecard, target: str) -> None:
    """The scorecard as JSON to a file, or to standard output where the target is "-".

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


def print_scorecard(card: Scorecard) -> None:
    """The verdict, the four axes, and what changed, as tables."""
    from safesight.report import verdict_sentence

    console = stdout()
    console.print()
    console.print(f"[bold]{verdict_sentence(card)}[/bold]", soft_wrap=True)
    console.print()
    console.print(_rates(card, "Scorecard, percent"))
    if card.deltas:
        console.print(_changes(card))
    if card.overhead:
        console.print(_overhead(card.overhead))
    judges = sorted({row.judge for row in card.rows})
    console.print(
        f"[dim]With 95% intervals; judge {', '.join(judges)}; "
        f"{card.seconds:.0f} s. Invalid answers are in no rate of attack or refusal.[/dim]",
        soft_wrap=True,
    )
    for note in card.provenance.notes:
        console.print(note, style="dim", soft_wrap=True, markup=False)


def print_beside(title: str, lead: str, card: Scorecard) -> None:
    """The rates of a second scorecard, of some arms under other tasks."""
    console = stdout()
    console.print(_rates(card, f"{title}, percent"))
    console.print(lead, style="dim", soft_wrap=True, markup=False)


_TITLES = {
    "attack_success_rate": "attack\nsuccess ↓",
    "over_refusal_rate": "over-\nrefusal ↓",
    "utility": "\nutility ↑",
}
"""The axes. Refusals of harmful requests are on none: less harm may come without them."""

_Cells = Callable[[str, str], "list[str]"]


def _table(title: str, card: Scorecard, heads: list[str], cells: _Cells) -> Table:
    """A row for each arm, a column for each axis and task; `cells(metric, task)` fills a column."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    # Folded, not cut: on a narrow terminal a number breaks over two lines, but none is lost.
    table.add_column("\n\n\n\nn", overflow="fold")
    columns = []
    for metric, axis in _TITLES.items():
        for task in dict.fromkeys(row.task for row in card.rows if row.metric == metric):
            n = max(row.n for row in card.rows if (row.metric, row.task) == (metric, task))
            name = task.replace("_", "\n", 1).replace("_", " ") + ("" if "_" in task else "\n")
            table.add_column(f"{axis}\n{name}\n[dim]{n}[/dim]", overflow="fold")
            columns.append(cells(metric, task))
    for head, *values in zip(heads, *columns, strict=True):
        table.add_row(head if len(head) < 14 else head.replace(" ", "\n", 1), *values)
    return table


def _rates(card: Scorecard, title: str) -> Table:
    heads = ["undefended" if name == "none" else _words(name) for name in card.defenses]
    return _table(
        title,
        card,
        heads,
        lambda metric, task: [_rate(card.row(name, task, metric)) for name in card.defenses],
    )


def _rate(row: Row | None) -> str:
    if row is None:
        return "–"
    bounds = f"{100 * row.low:.1f}–{100 * row.high:.1f}"
    invalid = f"\n{row.invalid} invalid" if row.invalid else ""
    value = "none judged" if row.n == 0 else f"{100 * row.value:.1f}"
    return f"{value}\n[dim]{bounds}[/dim]{invalid}"


def _changes(card: Scorecard) -> Table:
    found = dict.fromkeys((d.defense, d.against) for d in card.deltas)
    pairs = sorted(found, key=lambda pair: pair[1] != "none")
    heads = [
        _words(name) if against == "none" else f"{_words(name)}\nagainst {_words(against)}"
        for name, against in pairs
    ]
    return _table(
        "Change on the same samples, points",
        card,
        heads,
        lambda metric, task: [
            _change(card.delta(name, task, metric, against)) for name, against in pairs
        ],
    )


def _change(delta: Delta | None) -> str:
    if delta is None:
        return "–"
    low, high = 100 * delta.low, 100 * delta.high
    digits = 1 if max(-low, high) < 10 else 0  # wide enough to need none, and to break the column
    bounds = f"{low:+.{digits}f},{high:+.{digits}f}"
    return f"{100 * delta.delta:+.1f}\n[dim]{bounds}[/dim]"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _overhead(costs: list[Overhead]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title="Overhead, ratio to undefended",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        title_style="bold",
    )
    for heading in ("defense", "prefill", "answer, benign", "answer, refused", "peak memory"):
        table.add_column(heading, overflow="fold")
    for cost in costs:
        table.add_row(
            _words(cost.defense),
            _ratio(cost.prefill_ratio, cost.prefill_low, cost.prefill_high, cost.prefill_n),
            _ratio(cost.answer_ratio, cost.answer_low, cost.answer_high, cost.n),
            _ratio(
                cost.refused_answer_ratio,
                cost.refused_answer_low,
                cost.refused_answer_high,
                cost.refused_n,
            ),
            _ratio(
                cost.peak_memory_ratio,
                cost.peak_memory_low,
                cost.peak_memory_high,
                cost.peak_memory_n,
            ),
        )
    return table


def _ratio(value: float | None, low: float | None, high: float | None, n: int) -> str:
    """A dash where nothing was timed: a defense that refused none of its prompts, or all."""
    if value is None or not n:
        return "–"
    return f"{value:.2f} [dim]n {n}\n{low:.2f}–{high:.2f}[/dim]"
