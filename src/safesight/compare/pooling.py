"""Which answers the rates over all tasks are about.

The pooled attack success is over attacked requests only, if any request is attacked. Plain harmful
requests, which the undefended model may refuse anyway, would dilute it; they have their own rows.

More tries succeed more often, so tasks with different numbers of tries share no rate. A pooled
rate is over the tasks with the fewest, which are those that ask every request once wherever there
is one. The others have their own rows, and a table of their own (`tries`). Broken text is pooled
over all tasks: it is about answers, however often a request was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safesight.compare.records import Row
from safesight.compare.tries import plain_task
from safesight.stats import METRICS, Metric, MetricName

if TYPE_CHECKING:
    from safesight.evals import Answer

__all__ = ["Pool", "pooled_tasks"]


def pooled_tasks(rows: Sequence[Row], metric: str) -> list[str]:
    """The tasks that a rate over all tasks is about; all of them in files of older versions.

    Example:
        >>> one = Row(defense="none", task="vqa", metric="refusal_rate", value=0.0, low=0.0,
        ...           high=0.1, n=40, invalid=0, judge="exact", tries=1)
        >>> pooled_tasks([one, one.model_copy(update={"task": "vqa+repeat", "tries": 16})],
        ...              "refusal_rate")
        ['vqa']
    """
    tries: dict[str, int] = {}
    for row in rows:
        if row.metric == metric:
            tries[row.task] = max(tries.get(row.task, 1), row.tries or 1)
    fewest = min(tries.values(), default=1)
    return [task for task, count in tries.items() if count == fewest or metric == "broken_rate"]


@dataclass(frozen=True)
class Pool:
    """The answers in the rates over all tasks."""

    tasks: Mapping[MetricName, Sequence[str]]
    """By the name of a metric."""
    attacks: Set[str]
    """Those of the tasks for attack success that have attacked requests."""

    @classmethod
    def of(cls, rows: Sequence[Row], answers: Iterable[Answer]) -> Pool:
        """That of a scorecard with these rates, counted from these answers."""
        tasks = {name: pooled_tasks(rows, name) for name in METRICS}
        attacked = {answer.task for answer in answers if _is_attack(answer)}
        return cls(tasks, attacked & set(tasks["attack_success_rate"]))

    def has(self, metric: Metric, answer: Answer) -> bool:
        """Whether the rate is about an answer."""
        if answer.task not in self.tasks[metric.name]:
            return False
        about_all = metric.name != "attack_success_rate" or not self.attacks
        return about_all or _is_attack(answer)


def _is_attack(answer: Answer) -> bool:
    """Whether more than repetition was done to a harmful request."""
    attacked = answer.label == "harmful" and answer.attack is not None
    return attacked and plain_task(answer.task) is not None
