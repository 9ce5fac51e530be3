"""What the searches by gradient of a run found: the loss over the steps, and where pictures lie.

An answer about a crafted picture says in `facts["crafted"]` where that lies, below the folder
`CRAFTED` of the run. The folder that holds it has the losses of its search in `rows.json`, as
`safesight.adversary.crafted` wrote them. What is gone is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, RootModel

from safesight.compare.records import SearchCurve
from safesight.errors import StorageError
from safesight.records import read_record

if TYPE_CHECKING:
    from safesight.evals import Answer

__all__ = ["CRAFTED", "crafted_file", "search_curves"]

CRAFTED = "adaptive"
"""The folder with the crafted pictures of a run: a folder for each arm, then for each search."""
_ROWS = "rows.json"


class _Row(BaseModel):
    losses: list[float]
    random: float | None = None


class _Rows(RootModel[dict[str, _Row]]):
    pass


def crafted_file(log_dir: Path, answer: Answer) -> Path | None:
    """The crafted picture that an answer is about; None if it is about none that is there.

    Args:
        log_dir: The folder of the run.
        answer: One of its answers. A log may say anything, so no other folder is looked into.
    """
    place = answer.facts.get("crafted")
    if not isinstance(place, str):
        return None
    folder = (log_dir / CRAFTED).resolve()
    try:
        file = (folder / place).resolve()
        there = file.suffix == ".png" and file.is_relative_to(folder) and file.is_file()
    except (OSError, ValueError):  # a name that cannot be one of a file
        return None
    return file if there else None


def search_curves(log_dir: Path, answers: Iterable[Answer]) -> Iterator[SearchCurve]:
    """The least loss of every search that the answers are about, up to each step.

    Args:
        log_dir: The folder of the run.
        answers: Its answers; only their pictures count.

    Raises:
        StorageError: the losses of a search cannot be read.
    """
    pictures: dict[tuple[Path, float], set[str]] = defaultdict(set)
    for answer in answers:
        file = crafted_file(log_dir, answer)
        if file is not None and (size := _epsilon(answer)) is not None:
            pictures[file.parent, size].add(file.stem)
    for (folder, size), keys in pictures.items():
        rows = [row for key, row in _rows(folder).items() if key in keys]
        rows = [row for row in rows if row.losses and np.isfinite(row.losses).all()]
        if rows:
            yield _curve(folder, size, rows)


def _epsilon(answer: Answer) -> float | None:
    budget = answer.facts.get("budget")
    size = budget.get("epsilon") if isinstance(budget, Mapping) else None
    return float(size) if isinstance(size, int | float) else None


def _rows(folder: Path) -> dict[str, _Row]:
    found = read_record(folder / _ROWS, _Rows, _REMEDY)
    rows = {} if found is None else found.root
    if len({len(row.losses) for row in rows.values()}) > 1:
        raise StorageError(f"{folder / _ROWS} has searches of several lengths. {_REMEDY}")
    return rows


_REMEDY = "Delete its folder to leave the curve out."


def _curve(folder: Path, size: float, rows: list[_Row]) -> SearchCurve:
    # Steps of signs overshoot, and the search keeps the best picture that it has seen.
    losses = np.minimum.accumulate([row.losses for row in rows], axis=1)
    asides = [row.random for row in rows if row.random is not None]
    return SearchCurve(
        against=folder.parent.name,
        epsilon=size,
        n=len(rows),
        median=np.median(losses, axis=0).round(4).tolist(),
        low=losses.min(axis=0).tolist(),
        high=losses.max(axis=0).tolist(),
        random=round(float(np.median(asides)), 4) if asides else None,
    )
