"""The rows of a task whose pictures can be attacked, as a task of its own.

A file of prompts holds harmful and benign rows, with and without pictures. An attack on pixels
changes one picture of a harmful request, so such rows are asked apart: as they are, moved at
random, and attacked, always the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from safesight.benchmarks import load_benchmark
from safesight.types import Sample

__all__ = ["ATTACKED", "AttackedRows", "attacked_rows", "can_be_attacked"]

ATTACKED = "_attacked"
"""What the name of the task ends with, after that of the whole."""


@dataclass(frozen=True)
class AttackedRows:
    """Called like a benchmark: of the samples that another gives, those that can be attacked."""

    benchmark: str

    def __call__(self, n: int | None = None, **which: Any) -> list[Sample]:
        """Those of the first `n` of the benchmark, so that both tasks have the same rows."""
        return attacked_rows(load_benchmark(self.benchmark)(n, **which))


def attacked_rows(samples: Sequence[Sample]) -> list[Sample]:
    """Those that can be attacked; the fact `apart` tells a scorecard that they are asked twice.

    Example:
        >>> attacked_rows([Sample("0", "how?", "harmful", "bomb")])
        []
    """
    return [
        replace(sample, facts={**sample.facts, "apart": True})
        for sample in samples
        if can_be_attacked([sample])
    ]


def can_be_attacked(samples: Sequence[Sample]) -> bool:
    """Whether each is a harmful request, asked once about one picture, and there is one.

    Example:
        >>> can_be_attacked([Sample("0", "how?", "harmful", "bomb")]), can_be_attacked([])
        (False, False)
    """
    return bool(samples) and all(
        sample.label == "harmful" and len(sample.pictures) == 1 and not sample.shots
        for sample in samples
    )
