"""`safesight judge`: saved answers, in logs or in a file, read by other judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safesight.cli.judge_data import judge_data, not_graded
from safesight.cli.options import Columns, JsonFile, check_output, pairs_of
from safesight.cli.show import examples, print_json
from safesight.console import bar, stderr, stdout
from safesight.errors import InputError
from safesight.extras import need
from safesight.grid import Column, Grid, print_grid

if TYPE_CHECKING:
    from safesight.evals.rejudging import Judged

__all__ = ["EXAMPLES", "judge"]

EXAMPLES = examples(
    "safesight judge runs/mine --judge keywords",
    "safesight judge runs/mine --judge classifier:meta-llama/Llama-Guard-3-8B",
    "safesight judge runs/mine --judge graded:strongreject=openai/gpt-4o",
    "safesight judge runs/mine --judge panel:exact+keywords+relevance --json -",
    "safesight judge --data answers.csv --column answer=response --judge rules -o verdicts.jsonl",
)


_Judges = Annotated[
    list[str],
    typer.Option(
        "--judge",
        metavar="NAME[:ARGUMENT]",
        help="Judge to read the answers; repeatable. See `safesight list judges`.",
    ),
]
_LogDir = Annotated[Path | None, typer.Argument(help="Folder with the logs of `safesight eval`.")]
_Data = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="Instead of logs: rows with question, label and answer; see `safesight data columns`.",
    ),
]
_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="JSONL file for the verdicts."),
]


def judge(
    judges: _Judges,
    log_dir: _LogDir = None,
    data: _Data = None,
    column: Columns = None,
    output: _Output = None,
    json: JsonFile = None,
) -> None:
    """Judge saved answers again, without generating any and without the model.

    Verdicts are added to the logs. Logs that a judge has read already are left as they are, so a
    run that is stopped resumes; those in which a grading failed or took too long are graded again.
    `compare` and `report` show the first judge of each run, or the one given with --judge.

    Answers of any other tool are read from a file, with --data.
    """
    check_output(json, data)
    check_output(output, data)
    if data is not None:
        if log_dir is not None:
            raise InputError(f"Give either the folder {log_dir} or --data {data}.")
        judge_data(data, judges, pairs_of(column or [], "--column"), output, json)
        return
    if log_dir is None or column or output is not None:
        raise InputError(
            "Name a folder of logs, or a file of answers with --data, which --column and --output "
            "go with."
        )
    need("inspect_ai", "eval", "Judging answers")
    from safesight.evals.rejudging import judge_logs

    with bar() as shown:
        row = shown.add_task("answers", total=None)
        try:
            found = judge_logs(
                log_dir,
                judges,
                on_total=lambda total: shown.update(row, total=total),
                on_answer=lambda: shown.advance(row),
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"What was judged so far is in {log_dir}. Run the same command again to resume."
            ) from None
    _write(found, json)
    if json != "-":
        print_grid(stdout(), _table(found))
    stderr().print(f"Compare: safesight compare {log_dir} --judge {judges[0]}", soft_wrap=True)


def _write(found: Sequence[Judged], target: str | None) -> None:
    summary = [asdict(each) for each in found]
    if target == "-":
        print_json(summary)
    elif target is not None:
        import json

        from safesight.files import write_text

        write_text(Path(target), json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def _table(found: Sequence[Judged]) -> Grid:
    verdicts = list(found[0].verdicts) if found else []
    columns = [
        Column(("defense",), [(each.defense,) for each in found]),
        Column(("task",), [(each.task,) for each in found]),
        *(Column((name,), [(str(each.verdicts[name]),) for each in found]) for name in verdicts),
        *not_graded([each.failures for each in found]),
    ]
    if any(each.judge.startswith("panel:") for each in found):
        columns.append(Column(("disagreed",), [(str(each.disagreed),) for each in found]))
    labels = [each.judge for each in found]
    return Grid("Answers by verdict", labels, columns, corner=("judge",))
