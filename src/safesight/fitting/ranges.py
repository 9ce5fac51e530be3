"""What the prompts were like that set a threshold: how long, with which pictures, how they scored.

A threshold says little about prompts of another kind. So the card of a detector's artifact keeps
the range of its calibration prompts, in numbers that a generation has at hand. Cards of older
artifacts have none, and then nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from safesight.records import Record

__all__ = ["KEY", "CalibrationRange", "Spread", "in_card"]

KEY = "range"
"""Its entry in an artifact's card."""
_SLACK = 0.1
"""How far outside a value may be, in lengths of the range. Of two samples of one kind, either is as
likely to hold the longest prompt, which is no news."""


class Spread(Record):
    """The smallest and the largest of some values, and quantiles between them."""

    low: float
    q01: float
    median: float
    q99: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value.

        Example:
            >>> Spread.of([3, 1, 2]).median
            2.0
        """
        import numpy as np

        low, q01, median, q99, high = np.quantile(values, (0, 0.01, 0.5, 0.99, 1)).tolist()
        return cls(low=low, q01=q01, median=median, q99=q99, high=high)

    @property
    def slack(self) -> float:
        """How far a value may be outside."""
        return _SLACK * (self.high - self.low)

    def outside(self, values: Iterable[float], *, below_only: bool = False) -> float | None:
        """The value that is farthest outside, or None if none is.

        Example:
            >>> spread = Spread.of([10, 20])
            >>> spread.outside([12, 20.5]), spread.outside([12, 35, 5]), spread.outside([])
            (None, 35, None)
        """
        found = list(values)
        far = [] if below_only or not found else [(max(found) - self.high, max(found))]
        if found:
            far.append((self.low - min(found), min(found)))
        distance, value = max(far, default=(0.0, 0.0))
        return value if distance > self.slack else None


class CalibrationRange(Record):
    """The benign prompts that set a threshold, in numbers."""

    n: int
    tokens: Spread
    """Tokens of each prompt, without the placeholders of its pictures."""
    pictures: Spread
    """Pictures of each prompt or, if the processor cuts them up, their tiles."""
    pixels: Spread | None = None
    """Pixels of each picture after the processor's resizing; None if there are none, or unknown."""
    scores: Spread
    """The detector's."""

    @classmethod
    def of(cls, card: Mapping[str, Any]) -> CalibrationRange | None:
        """The range in an artifact's card; None if it has none that can be read."""
        try:
            return cls.model_validate(card[KEY])
        except (KeyError, ValidationError):
            return None


def in_card(found: CalibrationRange | None) -> dict[str, Any]:
    """The entry of a card; nothing without a range.

    Example:
        >>> in_card(None)
        {}
    """
    return {} if found is None else {KEY: found.model_dump()}
