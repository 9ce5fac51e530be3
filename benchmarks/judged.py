"""Rates and means over samples, and their changes, shared by the benchmarks.

Not a benchmark. As in a scorecard, answers that could not be judged, such as broken text, are
excluded from verdict rates, both numerator and denominator, so that breaking a model never looks
like making it safer; their number is reported next to the rate. Pairs count only if both answers
could be judged. For correctness, broken text counts as wrong.

An entry of a cell is a list: first the verdict, then whether the answer is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from safesight.compare.intervals import paired_difference, wilson

__all__ = ["Hit", "Values", "changed", "draws", "hits", "mean", "rate"]

Hit = bool | None
"""Whether an answer counts; None if it could not be judged."""
Values = npt.NDArray[np.float64]
"""One number per sample."""


def hits(entries: Iterable[Sequence[Any]], wanted: str) -> list[Hit]:
    """One per sample; `wanted` is a verdict or "correct"."""
    if wanted == "correct":
        return [bool(entry[1]) for entry in entries]
    return [None if entry[0] == "invalid" else entry[0] == wanted for entry in entries]


def rate(found: Sequence[Hit]) -> dict[str, Any]:
    """The rate with its 95% interval, and how many answers could not be judged."""
    judged = [hit for hit in found if hit is not None]
    return {**vars(wilson(sum(judged), len(judged))), "invalid": len(found) - len(judged)}


def changed(
    before: Sequence[Hit],
    after: Sequence[Hit],
    by: Callable[[Sequence[bool], Sequence[bool]], Any] = paired_difference,
) -> dict[str, Any] | None:
    """The change in a rate over the same samples; None if no pair could be judged."""
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    return vars(by([a for a, _ in pairs], [b for _, b in pairs])) if pairs else None


def mean(values: Values, name: str = "value") -> dict[str, float]:
    """The mean, under a name, with its 95% bootstrap interval over samples (a rate's for rates)."""
    if name == "value" and set(values.tolist()) <= {0.0, 1.0}:
        return vars(wilson(int(values.sum()), len(values)))
    low, high = np.percentile(values[draws(len(values))].mean(axis=1), [2.5, 97.5])
    return {name: float(values.mean()), "low": float(low), "high": float(high), "n": len(values)}


@lru_cache(maxsize=2)
def draws(n: int) -> npt.NDArray[np.int64]:
    """Resamples of n samples, one per row; always the same."""
    return np.random.default_rng(0).integers(0, n, (9999, n))
