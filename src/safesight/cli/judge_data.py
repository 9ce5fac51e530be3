"""`safesight judge --data`: a file of answers of any origin, read by judges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safesight.cli.show import print_json, print_sentence
from safesight.console import bar, stdout, waiting
from safesight.files import write_text
from safesight.grammar import load_judge
from safesight.grid import Column, Grid, print_grid

if TYPE_CHECKING:
    from safesight.judges.read_file import FileRate, FileVerdicts
    from safesight.types import Sample

__all__ = ["judge_data", "not_graded"]

_HEADS = {
    "attack_success_rate": "attack success",
    "over_refusal_rate": "over-refusal",
    "utility": "utility",
    "broken_rate": "broken",
}


def judge_data(
    source: str,
    judges: Sequence[str],
    columns: Mapping[str, str],
    output: Path | None,
    target: str | None,
) -> None:
    """Judge the answers of a file, print the rates, and write the verdicts.

    Args:
        source: A file, a folder or a data set of the hub.
        judges: Judges by name, with their arguments.
        columns: Names of columns in the source, by the schema's names.
        output: A JSONL file for one verdict per row and judge; None for none.
        target: A JSON file for the rates, "-" for standard output; None for none.

    Raises:
        SafesightError: the source or a judge cannot be used, or a file cannot be written.
    """
    with waiting(f"Reading {source}"):
        from safesight.data.counts import counted
        from safesight.data.samples import read_answered
        from safesight.judges.read_file import judge_file

        loaded = {name: load_judge(name) for name in judges}
        rows = read_answered(source, columns)
    found: list[FileVerdicts] = []
    with bar() as shown:
        task = shown.add_task("answers", total=len(rows) * len(loaded))
        for name, judge in loaded.items():
            found.append(judge_file(judge, name, rows, on_answers=lambda n: shown.advance(task, n)))
    if output is not None:
        write_text(output, _lines(rows, found))
    summary = [each.model_dump(exclude={"verdicts"}) for each in found]
    if target == "-":
        print_json(summary)
        return
    if target is not None:
        write_text(Path(target), json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    console = stdout()
    for caveat in dict.fromkeys(caveat for each in found for caveat in each.caveats):
        print_sentence(caveat, console)
    console.print()
    print_grid(console, _table(found))
    about = counted([sample for sample, _ in rows])
    print_sentence(
        f"{source}: {about}. 95% intervals, over groups where rows share one.", console, "dim"
    )


def not_graded(failures: Sequence[Mapping[str, int]]) -> list[Column]:
    """The column of the answers that could not be graded, by the reason; none if all were.

    Example:
        >>> not_graded([{"timeout": 2, "error": 1}, {}])[0].cells
        [('2 timeout, 1 error',), ('',)]
    """
    if not any(failures):
        return []
    told = [", ".join(f"{count} {kind}" for kind, count in each.items()) for each in failures]
    return [Column(("not graded",), [(each,) for each in told])]


def _lines(rows: Sequence[tuple[Sample, str]], found: Sequence[FileVerdicts]) -> str:
    """One line per row: its id, its label, and what each judge says. No text of the file."""
    verdicts = zip(*(each.verdicts for each in found), strict=True)
    names = [each.judge for each in found]
    return "".join(
        json.dumps(
            {
                "id": sample.id,
                "label": sample.label,
                "verdicts": dict(zip(names, words, strict=True)),
            }
        )
        + "\n"
        for (sample, _), words in zip(rows, verdicts, strict=True)
    )


def _table(found: Sequence[FileVerdicts]) -> Grid:
    columns = [
        Column((word,), [(str(each.counts[word]),) for each in found]) for word in found[0].counts
    ]
    columns += not_graded([each.failures for each in found])
    for metric, head in _HEADS.items():
        rates = [next((r for r in each.rates if r.metric == metric), None) for each in found]
        if any(rates):
            columns.append(Column((head, "percent"), [_cell(rate) for rate in rates]))
    return Grid("Answers by verdict, and rates", [each.judge for each in found], columns)


def _cell(rate: FileRate | None) -> tuple[str, ...]:
    if rate is None or rate.value is None:
        return ("–",)
    return (f"{100 * rate.value:.1f}", f"{100 * rate.low:.1f}–{100 * rate.high:.1f} n {rate.n}")
