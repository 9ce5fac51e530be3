"""What a defense contributes to a generation, and where it acts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from safesight.fitting.ranges import CalibrationRange
from safesight.generation.call_types import Generate, Inputs
from safesight.generation.edits import Edit
from safesight.generation.prefill import Detector

__all__ = ["Kind", "Parts"]

Kind = Literal["input", "detector", "activation", "pipeline", "weights"]
"""Where a defense acts: on the prompt, on the prefill, on hidden states, through several calls
of generate, or on weights."""


@dataclass(frozen=True)
class Parts:
    """What a defense contributes to a protected `generate`; most have one part."""

    rewrite: Callable[[Inputs], Inputs] | None = None
    """Returns the inputs with a changed prompt. Runs before everything else."""
    detector: Detector | None = None
    """Judges the prefill of the model without edits."""
    calibrated: CalibrationRange | None = None
    """The prompts that set the detector's threshold, if its artifact says; see `outside`."""
    around: Callable[[Generate, Inputs], Any] | None = None
    """Calls the given generate on the inputs one or more times, inside any hooks it needs, and
    returns the result (prompt first, then the answer). Does not run if every row is refused."""
    answers: Callable[[Inputs, Sequence[str]], Tensor] | None = None
    """All that `around` does, if it only replaces answers: by how much an answer to each prompt of
    a call is above the threshold, at which it is replaced. Such a defense does not change what the
    model writes, so an attack has the model's own gradient, towards an answer that passes."""
    edit: Edit | None = None
    """All that `around` does, if it only changes states of the prompt. An engine other than
    `transformers` makes the change itself; without it, the defense cannot run there."""
    attached: AbstractContextManager[Any] | None = None
    """Entered when the defense is attached and left when it is removed: adapters, weights."""
