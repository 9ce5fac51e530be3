"""The plan of a training run: the call of `fit`, a folder, and what the method adds.

`run` carries it out; `trainer` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from safesight import ranks
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
    """Resume from the last checkpoint in the folder, if there is one."""
    save_every: int | None = None
    """Steps between checkpoints; None for a tenth of the run."""


@dataclass(frozen=True)
class Method:
    """What a method adds to a run."""

    sources: Mapping[str, Sequence[TuningSample]]
    """The rows to draw from at every step, by the names the loss uses. Epochs are counted on the
    first."""
    terms: Sequence[Term]
    """The loss is their sum. The last one must depend on every trained parameter: processes
    exchange gradients after it, and only those of the parameters it reaches."""
    prepare: Callable[[Passes, Collator], None] | None = None
    """Measures the base model before the first step and writes to `Passes.facts`."""
    queries: bool = False
    """Whether the loss needs to know which tokens are the question."""
    stop: Callable[[list[dict[str, float]]], bool] | None = None
    """Whether to stop, given the log so far."""
    tensors: Mapping[str, Tensor] | None = None
    """Extra tensors for the artifact, for analysis; `apply` does not need them."""


class Answered(NamedTuple):
    """What the model answered to rows before training."""

    asked: str
    """A hash of the rows, the model and the settings."""
    said: Sequence[tuple[str, bool]]
    """By row: the answer, and whether it ended."""


@dataclass(frozen=True)
class Fitting:
    """One call of a defense's `fit`."""

    name: str
    """The defense's name."""
    vlm: VLM
    """The model; changed only during training."""
    data: FitData
    config: TuningConfig
    seed: int = 0
    """Seeds the adapter weights, dropout and the order of rows."""
    progress: bool = True
    run: TuningRun | None = None
    """Where to keep checkpoints; None for no checkpoints."""
    answered: Answered | None = None
    """What the model answered itself, if the run trains on that."""

    def rows(self, *needed: TuningSet) -> TuningData:
        """The rows, checked.

        Args:
            needed: The sets that must not be empty; both by default.

        Raises:
            InputError: there are no rows, or they cannot be used.
        """
        if not self.data.tuning:
            raise InputError(
                f"{self.name} trains on questions with answers, but got none. On the command line "
                "pass --data FILE; in Python, FitData(..., tuning=rows)."
            )
        return TuningData(self.data.tuning, *([needed] if needed else []))

    def about(self) -> dict[str, Any]:
        """The run's identity: two runs that agree on it are the same run."""
        return {
            "defense": self.name,
            "config": self.config.model_dump(mode="json"),
            "data": self.data.hash,
            "seed": self.seed,
            "model": self.vlm.identity,
            "number of processes": ranks.place().count,
        }
