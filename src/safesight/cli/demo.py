"""`safesight demo`: a full evaluation of a bundled model, from scratch to a report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safesight import registry
from safesight.cli.demo_screen import LEAD, TITLE, print_all, print_screen
from safesight.cli.options import MaxTokens, Seed, names_of
from safesight.cli.show import examples, write_json
from safesight.console import waiting
from safesight.errors import UnknownNameError
from safesight.extras import need
from safesight.files import check_place

if TYPE_CHECKING:
    from safesight.compare import Scorecard

__all__ = ["EXAMPLES", "demo"]

EXAMPLES = examples(
    "safesight demo",
    "safesight demo --all",
    "safesight demo --limit 30 --output /tmp/demo",
    "safesight demo --defense sasa,rai,npo",
)

ONE_WORD = ("ruled_harm", "ruled_harm+one_word", "ruled_benign", "ruled_benign+one_word")

_TIMED = 5
"""Benign inputs, and as many harmful ones, that each arm is timed on: enough for a short demo."""


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for logs, scorecards and report.")
    ] = Path("runs/demo"),
    limit: Annotated[int, typer.Option(min=1, help="Samples per task.")] = 40,
    seed: Seed = 0,
    model: Annotated[str, typer.Option(help="A bundled model.")] = "testbed",
    defense: Annotated[
        str | None,
        typer.Option(help="Comma-separated names. Default: all that the model has artifacts for."),
    ] = None,
    max_tokens: MaxTokens = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Print every table, not only the main methods.")
    ] = False,
) -> None:
    """Compare defenses with an undefended bundled model.

    Writes scorecard.json, one_word.json and report.html. A run that was stopped resumes when the
    command is repeated.
    """
    for module, extra in (("inspect_ai", "eval"), ("peft", "train")):
        need(module, extra, "The demo")
    check_place(output, folder=True)
    if model not in registry.names("model", builtin=True):
        raise UnknownNameError("bundled model", model, registry.names("model", builtin=True))
    from safesight.workflows.evaluation import ALL_TASKS, Evaluation, arms_of, evaluate

    others, tuned = _shown(model, None if defense is None else names_of(defense))
    logs, attacked = output / "logs", output / "one_word"
    for folder, defenses, tasks, timed in (
        (logs, [*others, *tuned], ALL_TASKS, _TIMED),
        (attacked, tuned, ONE_WORD, 0),
    ):
        evaluate(
            Evaluation(
                model=model,
                arms=arms_of(defenses),
                tasks=tasks,
                log_dir=folder,
                limit=limit,
                seed=seed,
                max_tokens=max_tokens,
                # One batch per task: two of half the size take longer.
                batch_size=min(limit, 64),
                overhead_inputs=timed,
            )
        )
    card, beside, page = _written(output)
    if everything:
        print_all(card, beside, page)
    else:
        print_screen(card, page, options=_options(model, defense, limit, seed, max_tokens))


def _options(model: str, defense: str | None, limit: int, seed: int, max_tokens: int | None) -> str:
    """What to add to a command so that it finds the same run."""
    given: tuple[tuple[str, object, object], ...] = (
        ("model", model, "testbed"),
        ("defense", defense, None),
        ("limit", limit, 40),
        ("seed", seed, 0),
        ("max-tokens", max_tokens, None),
    )
    words = (
        f" --{name} {shlex.quote(str(value))}" for name, value, usual in given if value != usual
    )
    return "".join(words)


def _written(output: Path) -> tuple[Scorecard, Scorecard, Path]:
    """The scorecards of both runs and the page, which are also written to the folder."""
    from safesight.compare.folder import scorecard_of
    from safesight.evals import read_answers
    from safesight.report import Beside, write_report
    from safesight.report.risk import read_risk

    logs = output / "logs"
    with waiting("Writing the report"):
        answers = read_answers(logs)
        card, beside = scorecard_of(logs, answers), scorecard_of(output / "one_word")
        write_json(card, str(output / "scorecard.json"))
        write_json(beside, str(output / "one_word.json"))
        page = write_report(
            output / "report.html",
            card,
            answers,
            risk=read_risk(logs),
            beside=[Beside(TITLE, LEAD, beside)],
        )
    return card, beside, page


def _shown(model: str, chosen: list[str] | None) -> tuple[list[str], list[str]]:
    """The defenses that leave the weights alone, and those that change them.

    The latter are evaluated again with one word changed.
    """
    from safesight.fitting.bundled import is_bundled
    from safesight.workflows.evaluation import demo_defenses

    known = demo_defenses()
    names = [each.name for each in known]
    for name in chosen or []:
        if name not in names:
            raise UnknownNameError("defense in the demo", name, names)
    # What is named and has no artifact is refused when it is built.
    here = [each.name for each in known if not each.fitted or is_bundled(each.name, model)]
    shown = [each for each in known if each.name in (here if chosen is None else chosen)]
    others = [each.name for each in shown if each.kind != "weights"]
    return others, [each.name for each in shown if each.kind == "weights"]
