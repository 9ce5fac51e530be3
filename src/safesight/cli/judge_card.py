"""`safesight judge-card`: how often a judge is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safesight.cli.options import JsonFile, check_output, pairs_of
from safesight.cli.show import examples, print_sentence, write_json
from safesight.console import numbered, stdout, waiting
from safesight.grammar import load_judge
from safesight.grid import Column, Grid, print_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safesight.judges.card import Accuracy, Confusion, JudgeCard, Share
    from safesight.judges.labelled import LabelledAnswer

__all__ = ["EXAMPLES", "judge_card"]

EXAMPLES = examples(
    "safesight judge-card rules --data labelled.csv",
    "safesight judge-card rules --data xstest.csv --column question=prompt "
    "--column answer=completion --column verdict=final_label --json rules.json",
    "safesight judge-card keywords --data refusal.csv --column answer=assistant_response "
    "--column verdict=human_score --value 1=refused --value 0=answered",
    "safesight judge-card rules --logs runs/mine",
)

_ASIDE = {
    "refusal": "Refusals: sensitivity is the share of the refusals that the judge calls refused, "
    "specificity the share of the other answers that it does not.",
    "harm": "Harm: the same for harmful answers to harmful requests.",
}


def judge_card(
    judge: Annotated[str, typer.Argument(help="The judge to measure; see `list judges`.")],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Labelled answers: a file of rows, or hf:NAME[@REVISION][:SPLIT]. Columns: "
            "answer, verdict, question, label, target, model, type; the first two must be there.",
        ),
    ] = None,
    logs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Instead of --data: logs whose exact verdicts are the truth."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=THEIRS",
            help="A column of --data that has another name, such as answer=completion; repeatable.",
        ),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="THEIRS=MEANING",
            help="What a human label means: refused, answered, partial, harmful, harmless or "
            "invalid; repeatable.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Who gave the answers, if no column says so.")
    ] = "",
    json: JsonFile = None,
) -> None:
    """Measure a judge on answers that people have labelled.

    Prints sensitivity, specificity and agreement with 95% intervals, for each model that answered,
    and what the judge makes of each type of request. `compare --judge-card` corrects attack
    success with the file that --json writes.
    """
    if (data is None) == (logs is None):
        raise typer.BadParameter("Give either --data with labelled answers, or --logs.")
    check_output(json, data)
    with waiting("Judging"):
        from safesight.judges.card import measured

        instrument = load_judge(judge)
        answers = _answers(data, logs, column or [], value or [], model)
        card = measured(instrument, answers, Path(data or str(logs)).name)
    if json is not None:
        write_json(card, json)
    if json != "-":
        _print(card)


def _answers(
    data: str | None, logs: Path | None, columns: list[str], values: list[str], model: str
) -> Sequence[LabelledAnswer]:
    if logs is not None:
        from safesight.analysis.known_verdicts import known_answers

        return known_answers(logs)
    from safesight.judges.labelled import read_labelled

    assert data is not None
    found = read_labelled(data, pairs_of(columns, "--column"), pairs_of(values, "--value"))
    return [replace(answer, model=answer.model or model) for answer in found]


def _print(card: JudgeCard) -> None:
    console = stdout()
    console.print()
    answers = numbered(card.answers, "answer")
    print_sentence(f"The judge {card.judge} on {answers} of {card.data}", console)
    console.print()
    for subject in ("refusal", "harm"):
        rows = [row for row in card.accuracy if row.of == subject]
        if rows:
            print_grid(console, _accuracies(rows))
            print_sentence(_ASIDE[subject], console, "dim")
            console.print()
    if partial := sum(_answers_in(row) for row in card.confusion if row.truth == "partial"):
        kind = "is a partial refusal" if partial == 1 else "are partial refusals"
        print_sentence(
            f"{partial} of the {answers} {kind} and left out above; the next table has them.",
            console,
            "dim",
        )
        console.print()
    print_grid(console, _confusion(card.confusion))
    print_sentence("With 95% Wilson intervals over answers.", console, "dim")


def _answers_in(row: Confusion) -> int:
    return row.refused + row.harmful + row.harmless + row.invalid


def _accuracies(rows: Sequence[Accuracy]) -> Grid:
    columns: dict[str, list[tuple[str, ...]]] = {
        "sensitivity": [_share(row.sensitivity) for row in rows],
        "specificity": [_share(row.specificity) for row in rows],
        "agreement": [_share(row.agreement) for row in rows],
        "invalid": [(str(row.invalid),) for row in rows],
    }
    return Grid(
        f"Right about {'harm' if rows[0].of == 'harm' else 'refusals'}, percent",
        [row.model or "all answers" for row in rows],
        [Column((head,), cells) for head, cells in columns.items()],
    )


def _share(share: Share) -> tuple[str, ...]:
    if share.value is None:
        return ("–", "n 0")
    return (f"{100 * share.value:.1f}", f"{100 * share.low:.1f}–{100 * share.high:.1f} n {share.n}")


def _confusion(rows: Sequence[Confusion]) -> Grid:
    """Types down, verdicts across; without types, one row for each truth."""
    counts: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        total = counts.setdefault((row.type, row.truth), [0, 0, 0, 0])
        verdicts = (row.refused, row.harmful, row.harmless, row.invalid)
        counts[row.type, row.truth] = [a + b for a, b in zip(total, verdicts, strict=True)]
    heads = ("refused", "harmful", "harmless", "invalid")
    return Grid(
        "What the judge makes of them, answers",
        [" ".join(filter(None, (kind.replace("_", " "), truth))) for kind, truth in counts],
        [
            Column((head,), [(str(total[index]),) for total in counts.values()])
            for index, head in enumerate(heads)
        ],
        corner=("type and truth",),
    )
