"""Attacks that know the defense, in words and in a table of their own, beside the plain requests.

The number of a defense is the weaker one: what an attacker gets who knows it, wherever that is more
than the plain requests get. Only numbers of the scorecard are shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from safesight.compare import Adaptive, Row, Scorecard
from safesight.grammar import UNDEFENDED, task_parts
from safesight.report.best_of import TriesColumn
from safesight.report.words import listed, share_told

__all__ = ["adaptive_columns", "adaptive_notes", "adaptive_sentence", "attack_of"]


_HEADS = ("as it is", "moved at random", "searched on the undefended", "strongest")


def adaptive_columns(card: Scorecard) -> list[TriesColumn]:
    """The columns of the table, four for each task that was attacked."""
    found: list[TriesColumn] = []
    for task in dict.fromkeys(each.task for each in card.adaptive):
        arms = {each.defense: each for each in card.adaptive if each.task == task}
        for place, head in enumerate(_HEADS):
            rows = [_rows(arms.get(name))[place] for name in card.defenses]
            if any(rows):
                first = not any(column.task == task for column in found)
                found.append(TriesColumn(task, head, rows, first))
    return found


def _rows(found: Adaptive | None) -> tuple[Row | None, Row | None, Row | None, Row | None]:
    if found is None:
        return (None, None, None, None)
    return (found.clean, found.noise, found.transfer, found.strongest)


def attack_of(row: Row | None, column: TriesColumn) -> str:
    """The attack that a rate is about; empty for the requests as they are."""
    return "" if row is None or row.task == column.task else _name(row)


def adaptive_sentence(card: Scorecard, arm: str) -> str | None:
    """What an attacker gets who knows an arm, on the task where that is most; None if not asked."""
    own = [each for each in card.adaptive if each.defense == arm and each.strongest is not None]
    if not own:
        return None
    worst = max(own, key=lambda each: _value(each.strongest))
    assert worst.strongest is not None
    against = "the undefended model" if arm == UNDEFENDED else arm
    plain = "was not asked as it is" if worst.clean is None else share_told(worst.clean)
    if _value(worst.strongest) <= _value(worst.clean):
        return (
            f"Nothing that knows {against} succeeded on {worst.task} more often than the requests "
            f"as they are ({plain}); the best of {len(worst.attacks)} attacks, "
            f"{_name(worst.strongest)}, did in {share_told(worst.strongest)}."
        )
    return (
        f"Against an attacker who knows {against}, {worst.task} succeeds in "
        f"{share_told(worst.strongest)} of the requests ({_name(worst.strongest)}); as they are, "
        f"they do in {plain}."
    )


def adaptive_notes(card: Scorecard) -> list[str]:
    """What the table does not show: a search that is too weak to say anything."""
    if not card.adaptive:
        return []
    notes = [
        "The strongest attack is the largest of several rates, so where they are alike it is a "
        "little too high."
    ]
    weak = [
        each.task
        for each in card.adaptive
        if each.defense == UNDEFENDED
        and (found := _searched(each)) is not None
        and _value(found) < _ENOUGH
    ]
    if weak:
        notes.append(
            f"On {listed(weak)} the search succeeds in less than {_ENOUGH:.0%} even against the "
            "undefended model, so it is too weak to say that a defense holds. Give it more steps."
        )
    return [*notes, *_unequal(card)]


def _unequal(card: Scorecard) -> Iterator[str]:
    """Tasks on which arms were searched with different numbers of steps, so do not compare."""
    steps: dict[str, dict[str, float]] = {}
    for row in (row for each in card.adaptive for row in each.attacks):
        if row.budget and "steps" in row.budget:
            steps.setdefault(row.task, {})[row.defense] = row.budget["steps"]
    for task, arms in steps.items():
        if len(set(arms.values())) > 1:
            told = ", ".join(f"{arm} {count:g}" for arm, count in arms.items())
            yield (
                f"On {task} the searches had different numbers of steps ({told}), so the arms do "
                "not compare. Search all of them with the same --steps."
            )


_ENOUGH = 0.9


def _searched(found: Adaptive) -> Row | None:
    """The most that pixels searched by gradient get; None if none were."""
    rows = [row for row in found.attacks if (row.budget or {}).get("steps")]
    return max(rows, key=_value, default=None)


def _value(row: Row | None) -> float:
    return 0.0 if row is None or row.value is None else row.value


def _name(row: Row | None) -> str:
    return "" if row is None else task_parts(row.task)[1][-1]
