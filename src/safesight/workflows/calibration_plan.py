"""What is asked of a threshold; the impossible is refused before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass

from safesight.errors import InputError

__all__ = ["CalibrationPlan"]


@dataclass(frozen=True)
class CalibrationPlan:
    """What is asked of a threshold.

    Raises:
        InputError: there is no such rate.
    """

    fpr: float = 0.01
    """The largest share of the benign rows to refuse."""
    seed: int = 0
    """Another seed divides the rows in another way."""
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.fpr < 1:
            raise InputError(
                f"--fpr {self.fpr:g} is not a rate of false refusals that a threshold can have. "
                "Use one above 0 and below 1, such as 0.01."
            )
