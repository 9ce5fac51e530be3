"""`safesight report`: one HTML page from a folder of logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safesight.cli.options import JudgedBy, page_of
from safesight.cli.show import examples
from safesight.console import stderr, waiting
from safesight.extras import need

__all__ = ["EXAMPLES", "report"]

EXAMPLES = examples(
    "safesight report runs/mine -o report.html",
    "safesight report runs/mine -o report.html --conversations 50 --remove-harmful",
    "safesight report runs/mine -o report.html --layers layers.json",
)


def report(
    log_dir: Annotated[Path, typer.Argument(help="Folder with the logs of `safesight eval`.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="HTML file to write. Default: report.html, if new."),
    ] = None,
    conversations: Annotated[
        int, typer.Option(min=0, help="Maximum number of conversations per task.")
    ] = 12,
    remove_harmful: Annotated[
        bool,
        typer.Option("--remove-harmful", help="Leave harmful content out instead of blurring it."),
    ] = False,
    judge: JudgedBy = None,
    layers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add the figures of a `safesight layers --json` file."),
    ] = None,
) -> None:
    """Write a self-contained page: verdict, plots, scorecard, conversations.

    A transfer matrix is on it if the folder holds one, in transfer.json (see `safesight transfer`).
    """
    need("inspect_ai", "eval", "The report")
    page = page_of(output, "report.html")
    with waiting("Writing the report"):
        from safesight.compare.folder import scorecard_of
        from safesight.evals import read_answers
        from safesight.files import write_text
        from safesight.report import read_layers, read_transfer, render
        from safesight.report.risk import read_risk
        from safesight.workflows.own_data import add_again

        # A wrong file is reported before the logs are read, which can take minutes.
        look = None if layers is None else read_layers(layers)
        for sentence in add_again(log_dir):
            stderr().print(sentence, soft_wrap=True)
        answers = read_answers(log_dir, judge)
        card = scorecard_of(log_dir, answers, judge)
        text = render(
            card,
            answers,
            per_task=conversations,
            redaction="remove" if remove_harmful else "blur",
            risk=read_risk(log_dir),
            layers=look,
            transfer=read_transfer(log_dir, card),
        )
        path = write_text(page, text)
    typer.echo(path)
