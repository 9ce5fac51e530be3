"""How one answer is decoded, for every tool that asks for one.

Knows nothing about Inspect or models.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

from safesight.errors import InputError

__all__ = ["Settings", "check_temperature"]


@dataclass(frozen=True)
class Settings:
    """How one answer is decoded. Requests with equal settings may share a batch.

    Example:
        >>> short, long = Settings(8, stop=("END",)), Settings(64)
        >>> short == long, short.of_batch == long.of_batch
        (False, True)
    """

    max_new_tokens: int
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many of the most probable tokens to report at each place; None for no probabilities."""
    shortened: bool = False
    """Whether the answer may have fewer than `max_new_tokens` where the context leaves no more."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    @property
    def but_seed(self) -> Settings:
        """All but the value of a seed, which each row of a batch has for itself.

        Example:
            >>> Settings(8, 1.0, seed=1).but_seed == Settings(8, 1.0, seed=2).but_seed
            True
        """
        return self if self.seed is None else replace(self, seed=0)

    @property
    def of_batch(self) -> Hashable:
        """What must be equal for all rows of a batch that is followed token by token.

        Length, stop strings and the value of a seed may then differ from row to row.
        """
        return (self.temperature, self.top_p, self.top_k, self.seed is None, self.logprobs)


def check_temperature(temperature: float) -> None:
    """Refuse a temperature at which nothing can be drawn.

    Raises:
        InputError: it is negative, infinite or no number.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise InputError(
            f"A temperature of {temperature:g} is not possible. Use 0 for greedy decoding, or a "
            "number above it, such as 1."
        )
