"""The line below a table: what its intervals are over, where its times come from, its own time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts.docs.results import Results, has

__all__ = ["bundled_identity", "caption", "duration"]

Entry = dict[str, Any]

ROOT = Path(__file__).parents[2]


def caption(results: Results, page: str, table: str, name: str, *arguments: str) -> str:
    """What is said below a table.

    Args:
        results: The committed results.
        page: The page that it stands on.
        table: The command that made it.
        name: The result that it shows.
        arguments: Further arguments of the command.
    """
    said = [_intervals(results, table, name, arguments)]
    if table in ("scorecard", "beside") and results.timed_elsewhere(name):
        costs = os.path.relpath("docs/reference/costs.md", Path(page).parent)
        said.append(f"Times are those of [costs]({costs}), measured apart.")
    if seconds := results.seconds(name):
        said.append(f"The benchmark took {duration(seconds)}.")
    measured, today = results.identity(name), bundled_identity()
    if measured not in ("", today):
        said.append(
            f"Measured on earlier weights of the bundled model (`{measured[:8]}`; "
            f"today's are `{today[:8]}`)."
        )
    line = " ".join(filter(None, said))
    return f"\n\n{line}" if line else ""


def _intervals(results: Results, table: str, name: str, arguments: Sequence[str]) -> str:
    """What the intervals of a table are over, as a sentence; empty if it does not say."""
    found = results.json(name, name) if has(results.folder, name) else None
    if not isinstance(found, dict):
        return ""
    entries = [entry for each in found.values() for entry in _entries(each)]
    shown, words = _shown(found, table, arguments)
    cells = [*_cells(entries)] if shown is None else shown
    counts = sorted({n for each in cells if (n := each.get("groups"))})
    if not counts:
        return ""
    fits: dict[str, set[int]] = {}
    for entry in entries:
        if "seed" in entry:
            fits.setdefault(str(entry.get("arm", "")), set()).add(entry["seed"])
    own = {arm: seeds for arm, seeds in fits.items() if arm in words} or fits
    seeds = sorted({len(each) for each in own.values()})
    more = f" and {_span(seeds)} fit seeds" if seeds and seeds[-1] > 1 else ""
    return f"95% intervals over {_span(counts)} things{more}."


def _shown(
    found: Entry, table: str, arguments: Sequence[str]
) -> tuple[list[Entry] | None, set[str]]:
    """The cells that a table shows, and the words of its rows; None if it shows all."""
    if table == "summary":
        headings = dict(each.split("=", 1) for each in arguments)
        arms = headings.pop("arms", "")
        rows = [row for row in found["summary"] if not arms or row["arm"] in arms.split(";")]
        cells = [row[key] for row in rows for key in headings if isinstance(row.get(key), dict)]
        return cells, {row["arm"] for row in rows}
    if table == "pivot":
        path, _, *columns = arguments
        headings = dict(each.split("=", 1) for each in columns)
        cells = [each for each in found[path] if f"{each['task']}/{each['metric']}" in headings]
        return cells, {str(value) for each in cells for value in each.values()}
    return None, set()


def _entries(value: Any) -> list[Entry]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _cells(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Entries, and what they hold."""
    for entry in entries:
        yield entry
        yield from (each for each in entry.values() if isinstance(each, dict))


def _span(counts: Sequence[int]) -> str:
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def duration(seconds: float) -> str:
    """Hours and minutes, for people.

    Example:
        >>> duration(10994), duration(278), duration(20)
        ('3 h 3 min', '5 min', '1 min')
    """
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def bundled_identity() -> str:
    """The identity of the bundled weights, as an artifact fitted on them holds it."""
    card = ROOT / "src/safesight/fitting/artifacts/testbed/sasa/card.json"
    return str(json.loads(card.read_text(encoding="utf-8"))["model"]["identity"])
