"""Corrects the p-values of a scorecard's changes for how many of them were tested.

With a hundred changes, five have p < 0.05 by chance. Holm's correction bounds the chance that even
one of the changes marked as significant is such a finding. All changes from the undefended model
are one family, all gains over controls another: the former ask whether a defense does anything,
the latter why.

A rate that is pooled over a single task is that task's rate. It is tested once, and both records
carry the same p-value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

from safesight.compare.records import Delta
from safesight.grammar import UNDEFENDED
from safesight.stats import holm

__all__ = ["by_family", "with_holm"]

Family = Mapping[Hashable, float]
"""The p-value of each test."""


def with_holm(deltas: Sequence[Delta]) -> list[Delta]:
    """The same changes, each with its p-value corrected within its family."""
    adjusted: dict[Hashable, float] = {}
    for family in by_family(deltas).values():
        adjusted |= zip(family, holm(list(family.values())), strict=True)
    tests = _tests(deltas)
    return [
        delta.model_copy(update={"p_holm": adjusted[test]})
        for delta, test in zip(deltas, tests, strict=True)
    ]


def by_family(deltas: Sequence[Delta]) -> dict[bool, Family]:
    """The tests of changes from the undefended model under True, those of gains under False.

    Example:
        >>> change = dict(defense="sasa", against="none", metric="utility", delta=0.1, low=0.0,
        ...               high=0.2, n=40, gained=4, lost=0, p_value=0.125)
        >>> found = by_family([Delta(task="vqa", **change), Delta(task="all", **change)])
        >>> len(found[True]), len(found[False])
        (1, 0)
    """
    found: dict[bool, dict[Hashable, float]] = {True: {}, False: {}}
    for delta, test in zip(deltas, _tests(deltas), strict=True):
        found[delta.against == UNDEFENDED][test] = delta.p_value
    return dict(found)


def _tests(deltas: Sequence[Delta]) -> list[Hashable]:
    """What each change tests; a pooled one over a single task tests what that task does."""
    tasks: dict[Hashable, list[Delta]] = defaultdict(list)
    for delta in deltas:
        if delta.task != "all":
            tasks[_about(delta)].append(delta)
    return [(*_about(delta), _task(delta, tasks[_about(delta)])) for delta in deltas]


def _about(delta: Delta) -> tuple[str, str, str]:
    return delta.defense, delta.against, delta.metric


def _task(delta: Delta, tasks: Sequence[Delta]) -> str:
    pooled = [each for each in tasks if each.tries == delta.tries]
    if delta.task == "all" and len(pooled) == 1 and _counts(delta) == _counts(pooled[0]):
        return pooled[0].task
    return delta.task


def _counts(delta: Delta) -> tuple[int, int, int]:
    return delta.n, delta.gained, delta.lost
