"""A scorecard as a Markdown table: what `fills` puts on a page."""

from __future__ import annotations

from safesight.compare import Scorecard

HARM_TASKS = ("text_harm", "image_harm", "typographic_harm")


def render_table(card: Scorecard) -> str:
    """One row a defense; a rate with its 95% interval, a time as a ratio to the first row's."""
    harm = [task for task in HARM_TASKS if task in card.tasks]
    heads = [
        "defense",
        *(f"attack success, {task.removesuffix('_harm')}" for task in harm),
        "over-refusal",
        "utility",
        "answer time",
        "refused answer time",
    ]
    lines = [_line(heads), _line(["---", *["--:"] * (len(heads) - 1)])]
    for defense in card.defenses:
        cells = [_rate(card, defense, task, "attack_success_rate") for task in harm]
        cells.append(_rate(card, defense, "all", "over_refusal_rate"))
        cells.append(_rate(card, defense, "all", "utility"))
        lines.append(_line([defense, *cells, *_times(card, defense)]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rate(card: Scorecard, defense: str, task: str, metric: str) -> str:
    row = card.row(defense, task, metric)
    if row is None:
        return ""
    return f"{row.value:.1%} ({100 * row.low:.1f} to {100 * row.high:.1f})"


def _times(card: Scorecard, defense: str) -> list[str]:
    if defense == card.defenses[0]:
        return ["1", ""]
    cost = next((cost for cost in card.overhead if cost.defense == defense), None)
    if cost is None:
        return ["", ""]
    refused = cost.refused_answer_ratio
    return [f"{cost.answer_ratio:.2f}", "" if refused is None else f"{refused:.2f}"]
