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
)


def compare(
    log_dir: Annotated[Path, typer.Argument(help="Folder with the logs of `safesight eval`.")],
    judge: JudgedBy = None,
    json: JsonFile = None,
) -> None:
    """Print what each defense gains and costs on the same samples, with intervals."""
    check_output(json)
    with waiting("Reading logs"):
        from safesight.compare.folder import scorecard_of

        card = scorecard_of(log_dir, judge=judge)
    if json is not None:
        write_json(card, json)
    if json != "-":
        print_scorecard(card)
