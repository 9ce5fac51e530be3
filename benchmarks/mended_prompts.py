"""The prompts that repaired detectors are fitted on and asked.

Not a benchmark; see `mended`.
"""

from __future__ import annotations

from typing import Any

from safesight.fitting.data import thing_of
from safesight.testbed import tasks
from safesight.types import Sample

__all__ = ["benign_asked", "pool", "things_of_benign"]


def pool(n: int, seed: int, split: Any) -> tuple[list[Sample], list[Sample]]:
    """Harmful and benign requests of all kinds."""
    harmful = [
        *tasks.text_harm(n, seed=seed, split=split),
        *tasks.image_harm(2 * n, seed=seed, split=split),
        *tasks.typographic_harm(n, seed=seed, split=split),
    ]
    benign = [
        *tasks.over_refusal(3 * n, seed=seed, split=split),
        *tasks.sensitive_benign(n, seed=seed, split=split),
        *tasks.vqa(n, seed=seed, split=split),
    ]
    return harmful, benign


def benign_asked(n: int, seed: int, split: Any) -> list[Sample]:
    """Not those that set the threshold, whatever the split."""
    return pool(max(n // 5, 8), 1000 + seed, split)[1]


def things_of_benign(row: dict[str, Any], split: str) -> list[str]:
    """What each verdict on a benign request is about; there may be one for every block."""
    things = [thing_of(each) for each in benign_asked(len(row["things"]), row["seed"], split)]
    return things * (len(row["false"]) // len(things))
