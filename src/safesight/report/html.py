"""The report page: fills the template from a scorecard and its conversations.

`closed` makes the file self-contained. The template is `page/report.html.j2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safesight.compare import Scorecard
from safesight.files import write_text
from safesight.grammar import UNDEFENDED
from safesight.report.best_of import budget_note
from safesight.report.closed import assemble
from safesight.report.conversations import (
    Conversation,
    Redaction,
    conversations,
    veiled_picture,
)
from safesight.report.layer_file import check_same_model
from safesight.report.layer_page import LayerView
from safesight.report.search_figures import SearchView
from safesight.report.sentence import RULE, headline_defenses, interval_note, verdict_sentence
from safesight.report.tables import (
    AXES,
    adaptive_table,
    columns,
    delta_rows,
    outcomes,
    overall,
    rate_rows,
    tries_table,
)
from safesight.report.transfer_page import TransferView
from safesight.report.words import extremes_note, holm_note

if TYPE_CHECKING:
    from safesight.analysis import LayerReport
    from safesight.analysis.transfer import TransferReport
    from safesight.evals import Answer
    from safesight.report.risk import RiskPicture

__all__ = ["PER_TASK", "Beside", "render", "write_report"]

PER_TASK = 12
"""Default number of conversations shown per task."""


@dataclass(frozen=True)
class Beside:
    """A second scorecard on the same page: some arms on other tasks."""

    title: str
    lead: str
    """A sentence about what to look for."""
    card: Scorecard


def render(
    card: Scorecard,
    answers: Sequence[Answer] = (),
    *,
    per_task: int = PER_TASK,
    redaction: Redaction = "blur",
    risk: Sequence[RiskPicture] = (),
    beside: Sequence[Beside] = (),
    layers: LayerReport | None = None,
    transfer: TransferReport | None = None,
) -> str:
    """The report as HTML text.

    Args:
        card: The numbers.
        answers: The conversations to choose from; without them the page has only numbers.
        per_task: Maximum number of conversations per task.
        redaction: "blur" hides harmful content until clicked; "remove" omits it.
        risk: RAI's risk maps of some pictures.
        beside: Further tables, for other tasks on the same model.
        layers: A layer report, shown as a separate section.
        transfer: How a detector does on other sets, likewise; see `read_transfer`.

    Raises:
        InputError: the layers are of another model than the answers.
    """
    if redaction == "remove":
        risk = [one for one in risk if not veiled_picture(one.task, one.label)]
    shown = conversations(
        answers,
        defenses=card.defenses,
        tasks=card.tasks,
        per_task=per_task,
        provenance=card.provenance,
        redaction=redaction,
    )
    return assemble(
        "report.html.j2",
        style="report.css",
        scripts=["report.js"],
        card=card,
        **_wording(card),
        best=headline_defenses(card),
        undefended=UNDEFENDED,
        costs={cost.defense: cost for cost in card.overhead},
        **_totals(card),
        **_tables(card),
        **_changes(card),
        outcomes=outcomes(card),
        conversations=shown,
        **_counts(answers, shown),
        redaction=redaction,
        searches=SearchView.of(card.searches),
        beside=[_part(each) for each in beside],
        risk=[(one, veiled_picture(one.task, one.label)) for one in risk],
        look=None if layers is None else _look(layers, card),
        matrix=None if transfer is None else TransferView.of(transfer),
        judges=_judges(card),
    )


def write_report(
    path: str | Path,
    card: Scorecard,
    answers: Sequence[Answer] = (),
    *,
    per_task: int = PER_TASK,
    redaction: Redaction = "blur",
    risk: Sequence[RiskPicture] = (),
    beside: Sequence[Beside] = (),
    layers: LayerReport | None = None,
) -> Path:
    """Render the report and write it atomically.

    Raises:
        InputError: the layers are of another model than the answers.
        StorageError: the file cannot be written.
    """
    text = render(
        card,
        answers,
        per_task=per_task,
        redaction=redaction,
        risk=risk,
        beside=beside,
        layers=layers,
    )
    return write_text(Path(path), text)


def _wording(card: Scorecard) -> dict[str, str | None]:
    """What the page says in sentences."""
    return {
        "sentence": verdict_sentence(card),
        "rule": RULE,
        "intervals": interval_note(card),
        "holm": holm_note(card),
        "none_of": extremes_note(row for row in card.pooled if row.metric in AXES),
        "none_of_task": extremes_note(row for row in card.rows if row.metric in AXES),
        "budget": budget_note(card),
    }


def _tables(card: Scorecard) -> dict[str, Any]:
    """The tables of rates, for the template."""
    cells = columns(card)
    return {
        "columns": cells,
        "rates": rate_rows(card, cells),
        "several": tries_table(card),
        "adaptive": adaptive_table(card),
    }


def _changes(card: Scorecard) -> dict[str, Any]:
    """The table of paired changes, for the template; those within several tries are among them."""
    cells = columns(card, several=True)
    return {"changed": cells, "deltas": delta_rows(card, cells)}


def _counts(answers: Sequence[Answer], shown: Sequence[Conversation]) -> dict[str, Any]:
    """The tasks that have conversations on the page, and how many samples were asked."""
    return {
        "conversation_tasks": list(dict.fromkeys(each.task for each in shown)),
        "answered": len({(each.task, each.sample_id) for each in answers}),
    }


def _totals(card: Scorecard) -> dict[str, Any]:
    """The plot of all tasks together, for the template."""
    cells = overall(card)
    rates = rate_rows(card, cells)
    base = dict(rates).get(UNDEFENDED, [None] * len(cells))
    return {"totals": cells, "total_rates": rates, "total_base": base}


def _judges(card: Scorecard) -> dict[str, list[str]]:
    """Each judge with the tasks that it judged."""
    judged: dict[str, list[str]] = {row.judge: [] for row in card.rows}
    for row in card.rows:
        if row.task in card.tasks and row.task not in judged[row.judge]:
            judged[row.judge].append(row.task)
    return dict(sorted(judged.items()))


def _look(layers: LayerReport, card: Scorecard) -> LayerView:
    """A layer report for the template; one of another model is refused."""
    check_same_model(layers, card)
    return LayerView.of(layers)


def _part(beside: Beside) -> dict[str, Any]:
    """A further table for the template."""
    cells = columns(beside.card)
    return {
        "title": beside.title,
        "lead": beside.lead,
        "columns": cells,
        "rates": rate_rows(beside.card, cells),
        "none_of": extremes_note(row for row in beside.card.rows if row.metric in AXES),
        "several": tries_table(beside.card),
    }
