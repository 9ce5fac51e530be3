"""What `safesight demo` prints: one screen about the main methods, or every table.

Both are made from scorecards alone, so the documentation shows them without a run. A defense says
itself whether it is on the first screen, and which controls stand under it (`Defense.headline`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from safesight import registry
from safesight.cli.show import (
    heading,
    label,
    print_beside,
    print_scorecard,
    print_sentence,
    rate,
)
from safesight.console import stdout
from safesight.grammar import UNDEFENDED
from safesight.grid import NO_BREAK, Column, Grid, print_grid

if TYPE_CHECKING:
    from rich.console import Console

    from safesight.compare import Overhead, Scorecard
    from safesight.stats import MetricName

__all__ = ["LEAD", "TITLE", "print_all", "print_screen"]

TITLE = "With one word changed"
LEAD = (
    "The harmful requests are about things that only a house rule forbids, the benign ones about "
    "others. A model that learned to refuse by the wording answers the former and refuses the "
    "latter once the wording changes."
)


_ON_SCREEN: tuple[MetricName, ...] = ("attack_success_rate", "over_refusal_rate", "benign_utility")


def print_screen(
    card: Scorecard, report: Path, console: Console | None = None, *, options: str = ""
) -> None:
    """Print the verdict and one table: the main methods with their controls, all tasks pooled.

    Args:
        card: What was measured.
        report: Where the page with all tables is.
        console: Where to print; standard output if not given.
        options: Of the demo, beside its folder, each after a space: for the command that prints
            all tables.
    """
    from safesight.report import interval_note, verdict_sentence

    console = console or stdout()
    arms = list(_arms(card))
    console.print()
    print_sentence(verdict_sentence(card), console, "bold")
    console.print()
    title = f"{card.model}: percent over all tasks, and the time of an answer"
    labels = [label(arm) if method else f"  {arm}" for arm, method in arms]
    columns = [*_rates(card, arms), _times(card, arms)]
    print_grid(console, Grid(title, labels, columns))
    judges = ", ".join(sorted({row.judge for row in card.rows}))
    print_sentence(
        f"With {interval_note(card)}; judge {judges}. {_attacks(card)}Answer time: benign answers, "
        "as a ratio to undefended, which was timed twice. Benign right: without what a method was "
        "told to forbid. Indented: a control of the method above it.",
        console,
        "dim",
    )
    hidden = len(set(card.defenses) - {arm for arm, _ in arms})
    more = f" and {hidden} more defenses" if hidden else ""
    console.print()
    for line in (
        f"All tables{more}: safesight demo --all{options} -o {report.parent}",
        f"Report with all tables and conversations: {report}",
    ):
        console.print(line, markup=False, soft_wrap=True)


def print_all(
    card: Scorecard, beside: Scorecard, report: Path, console: Console | None = None
) -> None:
    """Print every table: all defenses on all tasks, changes, overhead, one word changed.

    Args:
        card: What was measured.
        beside: The same of some arms with one word of each request changed.
        report: Where the page with all tables is.
        console: Where to print; standard output if not given.
    """
    console = console or stdout()
    print_scorecard(card, console)
    print_beside(TITLE, LEAD, beside, console)
    console.print()
    console.print(f"Report with conversations: {report}", markup=False, soft_wrap=True)


def _attacks(card: Scorecard) -> str:
    """What the pooled attack success is over."""
    if card.attacks is None:
        return ""
    if not card.attacks:
        return "Attack success: all harmful requests. "
    return "Attack success: attacked requests only. "


def _arms(card: Scorecard) -> Iterator[tuple[str, bool]]:
    """The arms of the first screen in order, and whether each is a method, not a control."""
    known = set(registry.names("defense")) & set(card.defenses)
    for arm in card.defenses:
        if arm == UNDEFENDED:
            yield arm, True
        elif arm in known and (controls := registry.load("defense", arm).headline) is not None:
            yield arm, True
            yield from ((control, False) for control in controls if control in known)


def _rates(card: Scorecard, arms: list[tuple[str, bool]]) -> Iterator[Column]:
    for metric in _ON_SCREEN:
        rows = [card.row(arm, "all", metric) for arm, _ in arms]
        if any(rows):
            n = max(row.n for row in rows if row is not None)
            yield Column((heading(card, metric), f"n {n}"), [_narrow(rate(row)) for row in rows])


def _narrow(cell: tuple[str, ...]) -> tuple[str, ...]:
    """Four numbers with intervals fit beside each other in 80 columns without that zero."""
    return tuple(text.replace("100.0", "100") for text in cell)


def _times(card: Scorecard, arms: list[tuple[str, bool]]) -> Column:
    costs: dict[str, Overhead] = {cost.defense: cost for cost in card.overhead}
    cells: list[tuple[str, ...]] = []
    for arm, _ in arms:
        cost = costs.get(arm)
        if cost is None or not cost.n:
            cells.append(("1.00",) if arm == UNDEFENDED else ("–",))
        elif cost.answer_low is None or cost.answer_high is None:
            cells.append((f"{cost.answer_ratio:.2f}",))
        else:
            bounds = f"{cost.answer_low:.2f}–{cost.answer_high:.2f}"
            cells.append((f"{cost.answer_ratio:.2f}", bounds))
    counts = sorted({costs[arm].n for arm, _ in arms if arm in costs}) or [0]
    n = f"n {counts[0]}" if len(counts) == 1 else f"n {counts[0]}–{counts[-1]}"
    return Column((f"answer time{NO_BREAK}↓", n), cells)
