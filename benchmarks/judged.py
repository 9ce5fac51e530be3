"""Rates and means over samples, and their changes, shared by the benchmarks.

Not a benchmark. What counts in which rate is decided in `safesight.stats.verdicts`; here the
entries that benchmarks store become answers that it can count, and what it finds becomes JSON.

An entry of a cell is a list: first the verdict, then whether the answer is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from safesight.stats import (
    METRICS,
    Hit,
    Judgement,
    MetricName,
    both_judged,
    mean_interval,
    paired_difference,
)

__all__ = ["Values", "changed", "hits", "mean", "rate"]

Values = npt.NDArray[np.float64]
"""One number per sample."""


def hits(entries: Iterable[Sequence[Any]], metric: MetricName) -> list[Hit]:
    """One per sample; None where it is left out because it could not be judged."""
    return METRICS[metric].hits(_answers(entries))


def rate(entries: Iterable[Sequence[Any]], metric: MetricName) -> dict[str, Any]:
    """The rate with its 95% interval, and how many could not be judged."""
    return vars(METRICS[metric].rate(_answers(entries)))


def _answers(entries: Iterable[Sequence[Any]]) -> list[Judgement]:
    return [Judgement(*entry[:2]) for entry in entries]


def changed(
    before: Sequence[Hit],
    after: Sequence[Hit],
    by: Callable[[Sequence[bool], Sequence[bool]], Any] = paired_difference,
) -> dict[str, Any] | None:
    """How a rate changed over the same samples; None if no pair could be judged."""
    pairs = both_judged(before, after)
    return vars(by(*pairs)) if pairs[0] else None


def mean(values: Values, name: str = "value") -> dict[str, float]:
    """The mean, under a name, with its 95% bootstrap interval over samples; of a rate, a rate's."""
    found = mean_interval(values, is_rate=name == "value")
    return {name: found.value, "low": found.low, "high": found.high, "n": found.n}
