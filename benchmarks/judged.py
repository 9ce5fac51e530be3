"""Rates and means over samples, and their changes, shared by the benchmarks.

Not a benchmark. What counts in which rate is decided in `safesight.stats.verdicts`; here the
entries that benchmarks store become answers that it can count, and what it finds becomes JSON.

An entry of a cell is a list: first the verdict, then whether the answer is right. What the samples
of a task are about is not stored: `About` makes the test set again, which depends only on its
name, size, seed and split. Intervals are resampled over these things and over fit seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from safesight.benchmarks import load_benchmark
from safesight.stats import (
    METRICS,
    Clusters,
    Hit,
    Judgement,
    MetricName,
    both_judged,
    clusters_of,
    design_effect,
    mean_interval,
    paired_difference,
)
from safesight.stats.means import Kind
from safesight.types import Sample, group_of

__all__ = [
    "About",
    "Values",
    "changed",
    "groups_of",
    "hits",
    "mean",
    "rate",
    "table_mean",
]

Values = npt.NDArray[np.float64]
"""One number per sample."""


def hits(entries: Iterable[Sequence[Any]], metric: MetricName) -> list[Hit]:
    """One per sample; None where it is left out because it could not be judged."""
    return METRICS[metric].hits(_answers(entries))


def groups_of(samples: Iterable[Sample]) -> list[Hashable]:
    """What each sample is about."""
    return [group_of(sample.facts, sample.id) for sample in samples]


class About:
    """What the samples behind stored entries are about.

    Args:
        n: Samples per task.
        split: The split they were drawn from.
        keep: Which of them were asked; all by default.
    """

    def __init__(
        self, n: int, split: str = "test", keep: Callable[[Sample], bool] = lambda sample: True
    ) -> None:
        self.n, self.split, self.keep = n, split, keep
        self._groups = cache(self._made)

    def _made(self, task: str, seed: int) -> list[Hashable]:
        samples = load_benchmark(task)(self.n, seed=seed, split=self.split)
        return groups_of(sample for sample in samples if self.keep(sample))

    def clusters(self, seeds: Iterable[int], tasks: Sequence[str]) -> Clusters | None:
        """The clusters of entries that come seed by seed, and in each task by task."""
        groups: list[Hashable] = []
        behind: list[int] = []
        for seed in seeds:
            found = [group for task in tasks for group in self._groups(task, seed)]
            groups += found
            behind += [seed] * len(found)
        return clusters_of(groups, behind)


def rate(
    entries: Iterable[Sequence[Any]], metric: MetricName, clusters: Clusters | None = None
) -> dict[str, Any]:
    """The rate with its 95% interval, and how many could not be judged.

    Of groups also the design effect, if some answers count and some do not.
    """
    answers = _answers(entries)
    found: dict[str, Any] = vars(METRICS[metric].rate(answers, clusters))
    hits = METRICS[metric].hits(answers)
    if clusters is None or len(set(hits) - {None}) < 2:
        return found
    by = clusters.kept([hit is not None for hit in hits])
    effect = design_effect([float(hit) for hit in hits if hit is not None], by)
    return found if math.isnan(effect) else found | {"design_effect": round(effect, 1)}


def _answers(entries: Iterable[Sequence[Any]]) -> list[Judgement]:
    return [Judgement(*entry[:2]) for entry in entries]


def changed(
    before: Sequence[Hit],
    after: Sequence[Hit],
    by: Callable[..., Any] = paired_difference,
    clusters: Clusters | None = None,
) -> dict[str, Any] | None:
    """How a rate changed over the same samples; None if no pair could be judged."""
    pairs = both_judged(before, after)
    if clusters is not None:
        judged = [a is not None and b is not None for a, b in zip(before, after, strict=True)]
        clusters = clusters.kept(judged)
    return vars(by(*pairs, clusters)) if pairs[0] else None


def mean(
    values: Values,
    name: str = "value",
    clusters: Clusters | None = None,
    *,
    kind: Kind | None = None,
) -> dict[str, Any]:
    """The mean, under a name, with its 95% bootstrap interval; of a rate, a rate's.

    A `value` is a rate and a `delta` the change of one, unless `kind` says otherwise, as for words.
    """
    kind = kind or ("rate" if name == "value" else "change")
    found = mean_interval(values, clusters, kind=kind)
    numbers = {name: found.value, "low": found.low, "high": found.high, "n": found.n}
    return numbers if found.groups is None else numbers | {"groups": found.groups}


def table_mean(
    outcomes: npt.ArrayLike, things: Sequence[str], name: str = "value"
) -> dict[str, Any]:
    """The mean of a table, fit seeds x prompts, resampled over things and seeds.

    Args:
        outcomes: One row per seed of the fit, one column per prompt; NaN where nothing was
            measured.
        things: What each prompt is about.
        name: As for `mean`.
    """
    table = np.atleast_2d(np.asarray(outcomes, dtype=np.float64))
    seeds, prompts = np.nonzero(~np.isnan(table))
    clusters = clusters_of([things[prompt] for prompt in prompts], seeds.tolist())
    found = mean(table[seeds, prompts], name, clusters)
    return {key: round(x, 4) if isinstance(x, float) else x for key, x in found.items()}
