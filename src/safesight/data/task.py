"""A data file as a task of an evaluation, and as a source of samples to fit on.

The task is called like its file. It is registered for this process only: `registry.add`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safesight import registry
from safesight.data.samples import Data, read_data
from safesight.data.split import SPLITS, Split, split_by_group
from safesight.errors import InputError
from safesight.grammar import POOLED
from safesight.types import Sample

__all__ = ["OwnTask", "add_task", "task_name"]


@dataclass(frozen=True)
class OwnTask:
    """Called like a benchmark: the samples of a file, or of one split of it.

    Example:
        >>> rows = [Sample(str(i), "?", "harmful" if i % 2 else "benign", "") for i in range(20)]
        >>> task = OwnTask(Data("mine.csv", rows))
        >>> len(task()), len(task(3)), len(task(split="test"))
        (20, 3, 6)
    """

    data: Data
    without: frozenset[str] = field(default=frozenset(), repr=False)
    """Ids of samples to leave out, such as those that a defense was fitted on."""
    whole: bool = False
    """Always give all samples, whatever `n`: for looking one up."""

    def __call__(
        self, n: int | None = None, *, seed: int = 0, split: Split | None = None
    ) -> list[Sample]:
        """Some of the samples, in the order of the file.

        Args:
            n: At most so many, as many of each label as possible; None for all.
            seed: Seed of the split, and of the choice if there are more than `n`.
            split: "fit", "calibration" or "test", divided by group; None for the whole file.

        Raises:
            InputError: no such split, or the file has too few groups for it.
        """
        samples: Sequence[Sample] = self.data.samples
        if split is not None:
            if split not in SPLITS:
                raise InputError(f"There is no split {split!r}. Use {', '.join(SPLITS)}.")
            samples = split_by_group(samples, seed=seed, source=self.data.source)[split]
        samples = [sample for sample in samples if sample.id not in self.without]
        return _balanced(samples, None if self.whole else n, seed)


def _balanced(samples: list[Sample], n: int | None, seed: int) -> list[Sample]:
    if n is None or n >= len(samples):
        return samples
    mixed = random.Random(seed).sample(samples, len(samples))
    harmful = [sample for sample in mixed if sample.label == "harmful"]
    benign = [sample for sample in mixed if sample.label == "benign"]
    few = min(len(harmful), max(n // 2, n - len(benign)))
    kept = {sample.id for sample in (*harmful[:few], *benign[: n - few])}
    return [sample for sample in samples if sample.id in kept]


def add_task(
    source: str | Path, columns: Mapping[str, str] | None = None, name: str | None = None
) -> str:
    """Register a file as a task of this process; returns the task's name.

    Raises:
        InputError: the file cannot be used, or the name is taken.
    """
    data = read_data(source, columns)
    name = name or task_name(source)
    if name == POOLED:
        raise InputError(f"{POOLED!r} stands for all tasks of a scorecard. Choose another name.")
    registry.add("benchmark", name, OwnTask(data), f"{len(data.samples)} prompts from {source}.")
    return name


def task_name(source: str | Path) -> str:
    """The name of a file as the name of a task.

    Example:
        >>> task_name("prompts/My set (v2).csv"), task_name("hf:org/set@main:test")
        ('My_set_v2', 'set')
        >>> task_name("all.csv")  # "all" stands for the rates over all tasks
        'own_all'
    """
    text = str(source)
    stem = text[3:].split("@")[0].split(":")[0].split("/")[-1] if text.startswith("hf:") else ""
    name = re.sub(r"[^\w.-]+", "_", stem or Path(text).expanduser().resolve().stem).strip("_.-")
    name = name or "data"
    taken = (POOLED, *registry.names("benchmark", builtin=True))
    return f"own_{name}" if name in taken else name
