"""`safesight demo`: the main job on the bundled model, from nothing to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safesight.cli.options import Seed
from safesight.cli.show import examples, print_beside, print_scorecard, write_json
from safesight.console import stderr, waiting
from safesight.extras import need

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
TUNED = ("sft", "npo", "rmu", "vsfa")
"""Those that change the weights; they are asked again with one word changed."""

ONE_WORD = ("ruled_harm", "ruled_harm+one_word", "ruled_benign", "ruled_benign+one_word")
_TITLE = "With one word changed"
_LEAD = (
    "Requests about things that only a house rule forbids, and about others. A model that learned "
    "to refuse by the wording answers the first and refuses the second once the wording changes."
)

_TIMED = 5
"""Benign and harmful inputs each that every arm is timed on: the demo is to take a few minutes."""


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for logs, scorecards and report.")
    ] = Path("runs/demo"),
    limit: Annotated[int, typer.Option(min=1, help="Samples a task.")] = 40,
    seed: Seed = 0,
) -> None:
    """Compare seventeen defenses with the undefended bundled model.

    Writes scorecard.json, one_word.json and report.html; the same command again goes on where it
    stopped.
    """
    for module, extra in (("inspect_ai", "eval"), ("peft", "train"), ("plotly", "report")):
        need(module, extra, "The demo")
    from safesight.workflows.evaluation import ALL_TASKS, Evaluation, arms_of, evaluate

    logs, attacked = output / "logs", output / "one_word"
    for folder, defenses, tasks, timed in (
        (logs, (*DEFENSES, *TUNED), ALL_TASKS, _TIMED),
        (attacked, TUNED, ONE_WORD, 0),
    ):
        evaluate(
            Evaluation(
                model="testbed",
                arms=arms_of(defenses),
                tasks=tasks,
                log_dir=folder,
                limit=limit,
                seed=seed,
                # One batch a task: two of half the size take longer.
                batch_size=min(limit, 64),
                overhead_inputs=timed,
            )
        )
    with waiting("Writing the report"):
        from safesight.compare.folder import scorecard_of
        from safesight.evals import read_answers
        from safesight.report import Beside, write_report
        from safesight.report.risk import read_risk

        answers = read_answers(logs)
        card, beside = scorecard_of(logs, answers), scorecard_of(attacked)
        write_json(card, str(output / "scorecard.json"))
        write_json(beside, str(output / "one_word.json"))
        page = write_report(
            output / "report.html",
            card,
            answers,
            risk=read_risk(logs),
            beside=[Beside(_TITLE, _LEAD, beside)],
        )
    print_scorecard(card)
    print_beside(_TITLE, _LEAD, beside)
    stderr().print(f"Scorecard: {output / 'scorecard.json'}   Report: {page}")
