"""What a training run is given: the call of `fit`, a folder, and what the method adds.

`run` carries it out; `trainer` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from safesight.errors import InputError
from safesight.training.batches import Collator
from safesight.training.passes import Passes, Term
from safesight.training.rows import TuningData

if TYPE_CHECKING:
    from safesight.fitting.data import FitData
    from safesight.models import VLM
    from safesight.training.config import TuningConfig
    from safesight.types import TuningSample, TuningSet

__all__ = ["Fitting", "Method", "TuningRun"]


@dataclass(frozen=True)
class TuningRun:
    """Where a run keeps its checkpoints and its log."""

    folder: Path
    resume: bool = False
    """Go on from the last checkpoint there, if there is one."""
    save_every: int | None = None
    """Steps between checkpoints; None is a tenth of the run."""


@dataclass(frozen=True)
class Method:
    """What a method adds to a run."""

    sources: Mapping[str, Sequence[TuningSample]]
    """What is drawn at every step: rows by the names that the loss knows them by. The first is
    what an epoch is counted in."""
    terms: Sequence[Term]
    """The loss is their sum. The last one reaches all that learns: behind it several processes
    exchange their gradients, and what it does not reach would not be exchanged."""
    prepare: Callable[[Passes, Collator], None] | None = None
    """Measures the base model before the first step, into `Passes.facts`."""
    queries: bool = False
    """Whether the loss needs to know which tokens are the question."""
    stop: Callable[[list[dict[str, float]]], bool] | None = None
    """Whether the log so far is enough."""
    tensors: Mapping[str, Tensor] | None = None
    """More for the artifact, for analysis; `apply` does not need them."""


@dataclass(frozen=True)
class Fitting:
    """One call of a defense's `fit`."""

    name: str
    """Of the defense."""
    vlm: VLM
    """Changed only while it is trained."""
    data: FitData
    config: TuningConfig
    seed: int = 0
    """Of the small matrices, of dropout and of the order of rows."""
    progress: bool = True
    run: TuningRun | None = None
    """Where to keep checkpoints; without a place there are none."""

    def rows(self, *needed: TuningSet) -> TuningData:
        """The rows, checked.

        Args:
            needed: The sets that must not be empty; both if none is named.

        Raises:
            InputError: there are none, or they cannot be used.
        """
        if not self.data.tuning:
            raise InputError(
                f"{self.name} trains on questions with answers, and was given none. On the command "
                "line give --data FILE; in Python, FitData(..., tuning=rows)."
            )
        return TuningData(self.data.tuning, *([needed] if needed else []))

    def about(self) -> dict[str, Any]:
        """What makes two runs the same."""
        return {
            "defense": self.name,
            "config": self.config.model_dump(mode="json"),
            "data": self.data.hash,
            "seed": self.seed,
            "model": self.vlm.identity,
        }
