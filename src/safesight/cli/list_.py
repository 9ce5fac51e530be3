"""`safesight list`: the names that commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from safesight import registry
from safesight.cli.show import examples, print_json
from safesight.console import stdout
from safesight.errors import UnknownNameError
from safesight.grammar import UNDEFENDED

__all__ = ["EXAMPLES", "list_names"]

EXAMPLES = examples("safesight list defenses", "safesight list tasks --json")

_KINDS: dict[str, registry.Kind] = {
    "defenses": "defense",
    "attacks": "attack",
    "tasks": "benchmark",
    "datasets": "dataset",
    "judges": "judge",
    "stress-tests": "stress_test",
    "models": "model",
    "word-lists": "word_list",
}
_WHAT = (*_KINDS, "families")


def list_names(
    kind: Annotated[str, typer.Argument(help=f"{', '.join(_WHAT)}.")],
    json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON array of names; tasks with their group."),
    ] = False,
) -> None:
    """List the names that commands take."""
    entries = _entries(kind)
    if json:
        grouped = kind == "tasks"
        names = [{"name": n, "group": registry.group(n)} for n in entries] if grouped else entries
        print_json(list(names))
        return
    width = max(map(len, entries), default=0)
    for group, some in _groups(kind, entries).items():
        _print(group, some, width)


def _groups(kind: str, entries: dict[str, str]) -> dict[str, dict[str, str]]:
    """The entries under their headings; one without a heading if there are no groups."""
    if kind != "tasks":
        return {"": entries}
    found: dict[str, dict[str, str]] = {}
    for name, summary in entries.items():
        found.setdefault(registry.group(name), {})[name] = summary
    return found


def _print(heading: str, entries: dict[str, str], width: int) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 3))
    table.add_column(no_wrap=True, min_width=width)
    table.add_column()
    for name, summary in entries.items():
        table.add_row(Text(name, style="bold"), Text(summary))
    if heading:
        stdout().print(Text(f"\n{heading}", style="underline"))
    stdout().print(table)


def _entries(kind: str) -> dict[str, str]:
    """Map each name to a one-sentence description.

    Raises:
        UnknownNameError: no such kind.
    """
    if kind == "families":
        from safesight.models import FAMILIES

        return {name: family.note for name, family in FAMILIES.items()}
    if kind not in _KINDS:
        raise UnknownNameError("list", kind, _WHAT)
    which = _KINDS[kind]
    shown = (name for name in registry.names(which) if (which, name) != ("defense", UNDEFENDED))
    return {name: registry.describe(which, name) for name in shown}
