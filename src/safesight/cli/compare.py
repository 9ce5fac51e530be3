"""`safesight compare`: the scorecard of a folder of logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safesight.cli.options import JsonFile, JudgedBy, check_output
from safesight.cli.show import examples, print_scorecard, write_json
from safesight.console import waiting

__all__ = ["EXAMPLES", "compare"]

EXAMPLES = examples(
    "safesight compare runs/mine",
    "safesight compare runs/mine --json scorecard.json",
    "safesight compare runs/mine --json - | jq .rows",
    "safesight compare runs/mine --judge keywords",
    "safesight compare runs/mine --judge-card rules.json",
)


def compare(
    log_dir: Annotated[Path, typer.Argument(help="Folder with the logs of `safesight eval`.")],
    judge: JudgedBy = None,
    judge_card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Card of the judge, as `safesight judge-card --json` writes it: also shows attack "
            "success corrected for the judge's errors.",
        ),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Print what each defense gains and costs on the same samples, with intervals."""
    check_output(json, judge_card)
    with waiting("Reading logs"):
        from safesight.compare.folder import scorecard_of
        from safesight.evals import read_answers

        answers = read_answers(log_dir, judge)
        card = scorecard_of(log_dir, answers, judge)
        if judge_card is not None:
            from safesight.compare.corrected import with_correction
            from safesight.judges.card import read_card

            card = with_correction(card, answers, read_card(judge_card))
    if json is not None:
        write_json(card, json)
    if json != "-":
        print_scorecard(card)
