"""Results as Markdown tables, for `fills`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from safesight.compare import Scorecard
from safesight.grammar import UNDEFENDED
from safesight.stats import HOW_TO

HARM_TASKS = ("text_harm", "image_harm", "typographic_harm")


def render_table(card: Scorecard) -> str:
    """One row per defense; a rate with its 95% interval, a time as a ratio to the first row's."""
    harm = [task for task in HARM_TASKS if task in card.tasks]
    heads = [
        "defense",
        *(f"attack success, {task.removesuffix('_harm')}" for task in harm),
        "over-refusal",
        "utility",
        *(METRICS[metric] for metric in _measured(card, "broken_rate")),
        "answer time",
        "refused answer time",
    ]
    for metric in reversed(_measured(card, "benign_utility", "ruled_utility")):
        heads.insert(len(harm) + 2, _heading(card, metric))
    lines = [_line(heads), _line(["---", *["--:"] * (len(heads) - 1)])]
    pooled = _measured(card, *list(METRICS)[1:])
    for defense in card.defenses:
        cells = [_rate(card, defense, task, "attack_success_rate") for task in harm]
        cells += [_rate(card, defense, "all", metric) for metric in pooled]
        lines.append(_line([defense, *cells, *_times(card, defense)]))
    return "\n".join(lines)


METRICS = {
    "attack_success_rate": "attack success",
    "over_refusal_rate": "over-refusal",
    "benign_utility": "benign right",
    "ruled_utility": "ruled things right",
    "utility": "utility",
    "broken_rate": "broken",
}


def _heading(card: Scorecard, metric: str) -> str:
    """The name of a metric, which says what benign requests ask for if that is known."""
    if metric == "benign_utility" and card.request(metric) == HOW_TO:
        return "benign how-to right"
    return METRICS[metric]


def _measured(card: Scorecard, *metrics: str) -> list[str]:
    return [m for m in metrics if any(card.row(d, "all", m) for d in card.defenses)]


def render_beside(card: Scorecard, defense: str) -> str:
    """One row per task and metric: undefended, defended, and the paired change in points."""
    first = card.defenses[0]
    heads = ["", "n", "undefended", defense, "change, points"]
    lines = [_line(heads), _line(["---", *["--:"] * 4])]
    for metric in METRICS:
        name = _heading(card, metric)
        for task in ("all",) if metric == "broken_rate" else (*card.tasks, "all"):
            change = card.delta(defense, task, metric, first)
            if change is None:
                continue
            points = f"{100 * change.delta:+.1f}"
            points += f" ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
            rates = (_rate(card, arm, task, metric) for arm in (first, defense))
            about = f"{name}, {_pool(card, metric) if task == 'all' else f'`{task}`'}"
            about += f", best of {change.tries}" if (change.tries or 1) > 1 else ""
            lines.append(_line([about, str(change.n), *rates, points]))
    answer, refused = _times(card, defense)
    if answer:
        lines.append(_line(["time of an answer", "", "1", answer, ""]))
    if refused:
        lines.append(_line(["time of a refused answer", "", "1", refused, ""]))
    return "\n".join(lines)


def _pool(card: Scorecard, metric: str) -> str:
    """What a pooled rate is over."""
    if metric != "attack_success_rate" or card.attacks is None:
        return "`all`"
    return "all attacks" if card.attacks else "all harmful requests"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rate(card: Scorecard, defense: str, task: str, metric: str) -> str:
    row = card.row(defense, task, metric)
    if row is None:
        return ""
    return render_rate(row.value, f"{100 * row.low:.1f} to {100 * row.high:.1f}")


def render_rate(value: float | None, details: str) -> str:
    """A rate with its interval, or that there is none."""
    return "none judged" if value is None else f"{value:.1%} ({details})"


def _times(card: Scorecard, defense: str) -> list[str]:
    if defense == card.defenses[0]:
        return ["1", ""]
    cost = next((cost for cost in card.overhead if cost.defense == defense), None)
    if cost is None:
        return ["", ""]
    refused = cost.refused_answer_ratio
    return [f"{cost.answer_ratio:.2f}", "" if refused is None else f"{refused:.2f}"]


def render_overhead(card: Scorecard) -> str:
    """One row per defense: times and memory as ratios to the undefended model, with intervals.

    That of the undefended model is of a second undefended arm.
    """
    heads = ["defense", "prefill", "answer, benign", "answer, refused", "peak memory"]
    lines = [_line(heads), _line(["---", *["--:"] * 4])]
    for cost in card.overhead:
        cells = [
            _ratio(cost.prefill_ratio, cost.prefill_low, cost.prefill_high, cost.prefill_n),
            _ratio(cost.answer_ratio, cost.answer_low, cost.answer_high, cost.n),
            _ratio(
                cost.refused_answer_ratio,
                cost.refused_answer_low,
                cost.refused_answer_high,
                cost.refused_n,
            ),
            f"{cost.peak_memory_ratio:.2f}",
        ]
        name = f"{cost.defense}, again" if cost.defense == UNDEFENDED else cost.defense
        lines.append(_line([name, *cells]))
    return "\n".join(lines)


def _ratio(value: float | None, low: float | None, high: float | None, n: int) -> str:
    """Empty if nothing was timed, as for a defense that refused none of its prompts."""
    return "" if value is None or not n else render_ratio(value, low, high, n)


def render_ratio(value: float, low: float | None, high: float | None, n: int | None = None) -> str:
    """A ratio with its interval, if it has one, and with n, if it is given.

    Example:
        >>> render_ratio(1.5, 1.4, 1.6), render_ratio(1.5, None, None, 3)
        ('1.50 (1.40 to 1.60)', '1.50 (n = 3)')
    """
    interval = [] if low is None or high is None else [f"{low:.2f} to {high:.2f}"]
    details = ", ".join([*interval, *([] if n is None else [f"n = {n}"])])
    return f"{value:.2f} ({details})" if details else f"{value:.2f}"


def render_summary(rows: Sequence[dict[str, Any]], headings: Mapping[str, str]) -> str:
    """One row per arm: rates over all seeds, changes in points, both with their 95% intervals."""
    lines = [_line(["arm", *headings.values()]), _line(["---", *["--:"] * len(headings)])]
    for row in rows:
        lines.append(_line([row["arm"], *(render_cell(row.get(key)) for key in headings)]))
    return "\n".join(lines)


def render_counts(rows: Sequence[dict[str, Any]]) -> str:
    """One row per kind of trial, with the command that repeats it."""
    heads = ["kind", "tried", "right", "refused", "faults", "the same trials again"]
    lines = [_line(heads), _line(["---", *["--:"] * 4, "---"])]
    for row in rows:
        numbers = [row["tried"], row["right"], row["refused"], len(row["faults"])]
        command = (
            f"`python -m benchmarks.torture {row['kind']} --n {row['n']} --seed {row['seed']}`"
        )
        lines.append(_line([row["kind"], *map(str, numbers), command]))
    return "\n".join(lines)


def render_pivot(
    cells: Sequence[dict[str, Any]], keys: Sequence[str], headings: Mapping[str, str]
) -> str:
    """One row per combination of the values under `keys`, one column per task and metric.

    A change that remains significant after Holm's correction, if one was made, has a star.
    """
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    for cell in cells:
        label = tuple(str(cell[key]) for key in keys)
        found[label][f"{cell['task']}/{cell['metric']}"] = cell
    lines = [
        _line([*keys, *headings.values()]),
        _line([*["---"] * len(keys), *["--:"] * len(headings)]),
    ]
    for label, row in found.items():
        lines.append(_line([*label, *(_starred(row.get(key)) for key in headings)]))
    return "\n".join(lines)


def _starred(found: dict[str, Any] | None) -> str:
    return render_cell(found) + (" *" if found and found.get("p_holm", 1) < 0.05 else "")


def render_cell(found: dict[str, Any] | None) -> str:
    """A rate, or a change if there is a `delta`; nothing where nothing was measured.

    A value with a `unit` is not a rate and is shown as it is.
    """
    if found is None:
        return ""
    if "unit" in found:
        form, value = ("+.2f", found["delta"]) if "delta" in found else (".2f", found["value"])
        return f"{value:{form}} ({found['low']:{form}} to {found['high']:{form}})"
    low, high = 100 * found["low"], 100 * found["high"]
    if "delta" in found:
        return f"{100 * found['delta']:+.1f} ({low:+.1f} to {high:+.1f})"
    return render_rate(found["value"], f"{low:.1f} to {high:.1f}")
