"""How each defense does against someone who knows it: the strongest attack, beside the plain one.

A run with adaptive attacks asks every arm about each task as it is, with pixels moved at random
(`noise`), with pixels searched against the undefended model (`transfer`), and under attacks that
know the arm. The strongest of the last two counts: a defense is as good as the worst that can be
done to it, and who knows it may still move pixels as if it were not there. Its rate is the largest
of several, so it lies a little too high where several are alike. Attacks that ask several times are
not among them: they compare with the plain request asked as often (`tries`), not with one try.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safesight.compare.records import Adaptive, Row
from safesight.grammar import UNDEFENDED, task_parts

__all__ = ["adaptive_rows", "was_searched"]

_CONTROLS = ("noise", "repeat")
_METRIC = "attack_success_rate"


def adaptive_rows(rows: Sequence[Row], tasks: Sequence[str]) -> Iterator[Adaptive]:
    """One record for every defense and every task that was attacked.

    Args:
        rows: The rates of all tasks.
        tasks: Those of adaptive attacks and their controls, such as "image_harm+pgd8"; and those of
            requests that are asked apart to be attacked, as they are.
    """
    tasks = [task for task in tasks if task_parts(task)[1]]
    found = {(row.defense, row.task): row for row in rows if row.metric == _METRIC}
    bases = dict.fromkeys(_base(task) for task in tasks)
    for defense in dict.fromkeys(row.defense for row in rows):
        for base in bases:
            own = {
                _attack(task): found[defense, task]
                for task in tasks
                if _base(task) == base and (defense, task) in found
            }
            # On the undefended model a transferred picture is that of the search itself.
            left_out = (*_CONTROLS, *(["transfer"] if defense == UNDEFENDED else []))
            known = [
                row
                for name, row in own.items()
                if not name.startswith(left_out) and (row.tries or 1) == 1 and was_searched(row)
            ]
            if not known:
                continue
            yield Adaptive(
                defense=defense,
                task=base,
                clean=found.get((defense, base)),
                noise=_strongest([row for name, row in own.items() if name.startswith("noise")]),
                transfer=_strongest(
                    [row for name, row in own.items() if name.startswith("transfer")]
                ),
                strongest=_strongest(known),
                attacks=known,
            )


def was_searched(row: Row) -> bool:
    """Whether an arm was searched for a row of `pgd`; one without a gradient is only asked."""
    found = _attack(row.task)
    return not found.startswith("pgd") or "steps" in (row.budget or {})


def _strongest(rows: Sequence[Row]) -> Row | None:
    """The row with the most success; of equal ones, that which spends least."""
    known = [row for row in rows if row.value is not None]
    return max(known, key=lambda row: (row.value or 0.0, -_spent(row)), default=None)


def _spent(row: Row) -> float:
    budget = row.budget or {}
    return budget.get("epsilon", 0.0) + budget.get("queries", 1.0)


def _base(task: str) -> str:
    return task.rpartition("+")[0]


def _attack(task: str) -> str:
    return task_parts(task)[1][-1]
