"""`safesight demo`: the main job on the bundled model, from nothing to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safesight.cli.options import Seed
from safesight.cli.show import examples, print_scorecard, stderr, waiting, write_json

__all__ = ["EXAMPLES", "demo"]

EXAMPLES = examples("safesight demo", "safesight demo --limit 30 --output /tmp/demo")

DEFENSES = (
    "sasa",
    "rai",
    "image_tools",
    "tool_vector",
    "safety_prompt",
    "look_carefully",
    "adashield",
    "ecso",
    "coca",
    "shiftdc",
    "hidden_detect",
    "refusal_direction",
)

_TIMED = 6
"""Benign and harmful inputs each that every arm is timed on: the demo is to take a few minutes."""


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for logs, scorecard and report.")
    ] = Path("runs/demo"),
    limit: Annotated[int, typer.Option(min=1, help="Samples a task.")] = 50,
    seed: Seed = 0,
) -> None:
    """Compare every training-free defense with the undefended bundled model.

    Writes scorecard.json and report.html; the same command again goes on where it stopped.
    """
    from safesight.cli.evaluation import ALL_TASKS, Evaluation, arms_of, evaluate

    logs = output / "logs"
    evaluate(
        Evaluation(
            model="testbed",
            arms=arms_of(DEFENSES),
            tasks=ALL_TASKS,
            log_dir=logs,
            limit=limit,
            seed=seed,
            overhead_inputs=_TIMED,
        )
    )
    with waiting("Writing the report"):
        from safesight.compare.folder import scorecard_of
        from safesight.evals import read_answers
        from safesight.report import write_report
        from safesight.report.risk import read_risk

        answers = read_answers(logs)
        card = scorecard_of(logs, answers)
        write_json(card, str(output / "scorecard.json"))
        page = write_report(output / "report.html", card, answers, risk=read_risk(logs))
    print_scorecard(card)
    stderr().print(f"Scorecard: {output / 'scorecard.json'}   Report: {page}")
