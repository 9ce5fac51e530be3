"""`safesight data`: what is in a file of prompts, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from safesight.cli.options import Columns, pairs_of
from safesight.cli.show import examples, print_json
from safesight.console import numbered, stdout, track, waiting
from safesight.errors import InputError

if TYPE_CHECKING:
    from safesight.data.samples import Checked
    from safesight.types import Sample

__all__ = ["EXAMPLES", "data"]

EXAMPLES = examples(
    "safesight data check mine.csv",
    "safesight data check mine.csv --column question=prompt --column image=file",
    "safesight data check pictures/ --json",
)

SHOWN = 5
_LEARNED = " A probe may learn that in place of the request."
_CUT = 60


def data(
    action: Annotated[Literal["check", "columns"], typer.Argument(help="What to do.")],
    file: Annotated[
        str | None,
        typer.Argument(help="A file of rows, a folder of pictures, or hf:NAME[@REVISION][:SPLIT]."),
    ] = None,
    column: Columns = None,
    pictures: Annotated[
        bool, typer.Option(help="Open every picture; without, only look whether it is there.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a file of prompts: count its rows, show a few, and name every row that is wrong.

    `columns` says what the columns are, and needs no file. Exits with code 1 if a row is wrong.
    """
    from safesight.data import COLUMNS

    if action == "columns":
        _print_columns(COLUMNS, json)
        return
    if file is None:
        raise typer.BadParameter("Name a file, a folder, or a data set of the hub.")
    from safesight.data.samples import checked

    with waiting(f"Reading {file}"):
        rows = list(checked(file, pairs_of(column or [], "--column")))
    if not rows:
        raise InputError(f"{file} has no rows. Write one prompt per row.")
    faults = [(row.place, fault) for row in rows for fault in row.faults]
    samples = [row.sample for row in rows if row.sample is not None]
    if pictures:
        faults += _unreadable(rows)
    found = _found(file, rows, samples, faults)
    if json:
        print_json(found)
    else:
        _print(found, samples)
    if faults:
        raise typer.Exit(1)


def _print_columns(columns: Mapping[str, str], json: bool) -> None:
    if json:
        print_json(dict(columns))
        return
    from rich.table import Table

    table = Table.grid(padding=(0, 3))
    for name, meaning in columns.items():
        table.add_row(name, meaning.replace("`", ""))
    stdout().print(table)


def _unreadable(rows: Sequence[Checked]) -> list[tuple[str, str]]:
    """Pictures that are there and cannot be opened."""
    found = []
    shown = [row for row in rows if row.sample is not None and row.sample.pictures]
    for row in track(shown, "pictures", visible=len(shown) > SHOWN):
        assert row.sample is not None
        for picture in row.sample.pictures:
            try:
                picture()
            except InputError as error:
                found.append((row.place, str(error)))
    return found


def _found(
    file: str,
    rows: Sequence[Checked],
    samples: Sequence[Sample],
    faults: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    from safesight.data.balance import nuisances
    from safesight.types import Label

    return {
        "file": file,
        "rows": len(rows),
        "usable": len(samples),
        "labels": {
            label: {
                "rows": len(some),
                "with_pictures": sum(bool(sample.pictures) for sample in some),
                "groups": len({sample.facts.get("group", sample.id) for sample in some}),
                "categories": dict(Counter(str(s.facts.get("category", "")) for s in some)),
            }
            for label in get_args(Label)
            for some in [[sample for sample in samples if sample.label == label]]
        },
        "ignored_columns": sorted({name for row in rows for name in row.ignored}),
        "faults": [{"place": place, "fault": fault} for place, fault in faults],
        "warnings": [
            *(each.sentence + _LEARNED for each in nuisances(samples) if each.alarming),
            *_contradictions(samples),
        ],
    }


def _contradictions(samples: Sequence[Sample]) -> Iterator[str]:
    """Prompts in text alone that are labelled both ways."""
    labels: dict[Any, set[str]] = {}
    for sample in samples:
        if not sample.pictures:
            said = " ".join(sample.question.split()), sample.system, repr(sample.turns)
            labels.setdefault(said, set()).add(sample.label)
    if count := sum(len(found) > 1 for found in labels.values()):
        yield f"Labelled harmful in one row and benign in another: {numbered(count, 'prompt')}."


def _print(found: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    console = stdout()
    for line in _lines(found):
        console.print(line, soft_wrap=True)
    if samples:
        console.print()
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        table.add_row("id", "label", "pictures", "question", style="dim")
        for sample in samples[:SHOWN]:
            question = " ".join(sample.question.split())
            short = question if len(question) <= _CUT else f"{question[: _CUT - 1]}…"
            table.add_row(sample.id[:20], sample.label, str(len(sample.pictures)), short)
        console.print(table)


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['file']}: {found['rows']} rows, {found['usable']} usable"
    for label, counts in found["labels"].items():
        if counts["rows"]:
            share = 100 * counts["with_pictures"] / counts["rows"]
            yield (
                f"  {label}: {counts['rows']} rows in {counts['groups']} groups, {share:.0f}% with "
                "pictures"
            )
        else:
            yield f"  {label}: none"
    if found["ignored_columns"]:
        yield f"Columns that are not used: {', '.join(found['ignored_columns'])}"
    for warning in found["warnings"]:
        yield f"Warning: {warning}"
    for each in found["faults"]:
        yield f"{each['place']}: {each['fault']}"
