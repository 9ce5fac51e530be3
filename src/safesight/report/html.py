"""The page: template, style and scripts put together into one file.

The file needs no network: Plotly is inside, fonts are the reader's own, pictures are
data. Its content security policy forbids every other source, and lets only the page's
own scripts run, by their hashes; so nothing that a model wrote could act even if it
were not escaped, and everything is escaped. The template is `page/report.html.j2`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from safesight.compare import UNDEFENDED, Scorecard
from safesight.compare.folder import write_text
from safesight.report.conversations import Conversation, Redaction, conversations
from safesight.report.sentence import RULE, best_defense, verdict_sentence
from safesight.report.tables import columns, delta_rows, outcomes, plot_data, rate_rows

if TYPE_CHECKING:
    from safesight.evals import Answer

__all__ = ["PER_TASK", "render", "write_report"]

PER_TASK = 12
"""Conversations shown for each task unless asked otherwise."""


def render(
    card: Scorecard,
    answers: Sequence[Answer] = (),
    *,
    per_task: int = PER_TASK,
    redaction: Redaction = "blur",
) -> str:
    """The report as HTML text.

    Args:
        card: The numbers.
        answers: The conversations to choose from; without them the page has only numbers.
        per_task: Most conversations shown for each task.
        redaction: "blur" veils harmful content until clicked; "remove" leaves it out.
    """
    shown = conversations(
        answers,
        defenses=card.defenses,
        tasks=card.tasks,
        per_task=per_task,
        seed=card.provenance.seed or 0,
        redaction=redaction,
    )
    cells = columns(card)
    scripts = {"plotly": _plotly(), "report": _page_file("report.js")}
    page: str = _template().render(
        card=card,
        sentence=verdict_sentence(card),
        rule=RULE,
        best=best_defense(card),
        undefended=UNDEFENDED,
        costs={cost.defense: cost for cost in card.overhead},
        columns=cells,
        rates=rate_rows(card, cells),
        deltas=delta_rows(card, cells),
        outcomes=outcomes(card),
        conversations=shown,
        conversation_tasks=list(dict.fromkeys(c.task for c in shown)),
        answered=len({(a.task, a.sample_id) for a in answers}),
        redaction=redaction,
        judges=sorted({row.judge for row in card.rows}),
        plot=_json_island(plot_data(card)),
        style=Markup(_page_file("report.css")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        policy=_policy(scripts.values()),
    )
    return page


def write_report(
    path: str | Path,
    card: Scorecard,
    answers: Sequence[Answer] = (),
    *,
    per_task: int = PER_TASK,
    redaction: Redaction = "blur",
) -> Path:
    """Render the report and write it as a whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    return write_text(Path(path), render(card, answers, per_task=per_task, redaction=redaction))


def _template() -> Any:
    # Undefined names are bugs of ours; autoescape is what keeps answers text.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["pretty"] = _pretty
    environment.filters["words"] = lambda name: name.replace("_", " ")
    environment.tests["differing"] = lambda c: isinstance(c, Conversation) and c.differs
    return environment.from_string(_page_file("report.html.j2"))


def _page_file(name: str) -> str:
    return (resources.files("safesight.report") / "page" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    # An end tag inside the library's own strings would end the script early.
    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _policy(scripts: Any) -> str:
    hashes = " ".join(
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for text in scripts
    )
    return (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {hashes}; "
        "base-uri 'none'; form-action 'none'"
    )


def _json_island(data: Any) -> Markup:
    """JSON for a script element of another type: text that cannot end the element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
