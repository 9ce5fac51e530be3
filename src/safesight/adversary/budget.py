"""What an attack by gradient may spend: how far a pixel may move, and how many steps it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from safesight.errors import InputError

__all__ = ["EPSILONS", "Budget"]

EPSILONS = (4.0, 8.0, 16.0)
"""The sizes that are usual in the literature on robustness, of 255."""


@dataclass(frozen=True)
class Budget:
    """The size and the length of a search.

    Args:
        epsilon: The most that a channel of a pixel may change, in 255ths.
        steps: Gradient steps; each is one forward and one backward pass.

    Raises:
        InputError: a size or a number of steps that leaves nothing to search.

    Example:
        >>> Budget(epsilon=8, steps=50).radius
        0.03137254901960784
    """

    epsilon: float = 8.0
    steps: int = 50

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and 1 <= self.epsilon <= 255):
            raise InputError(
                f"An epsilon of {self.epsilon:g} is not possible: pictures have whole values from "
                "0 to 255. Choose one from 1 to 255, such as 8."
            )
        if self.steps < 1:
            raise InputError(
                f"{self.steps} steps change nothing. Give the attack at least 1, such as 50."
            )

    @property
    def radius(self) -> float:
        """The size as a share of the range of values."""
        return self.epsilon / 255

    def step(self, number: int) -> float:
        """How far every value moves in a step, counted from 0.

        A quarter of the radius at first, then less, down to a sixteenth of that.

        Example:
            >>> budget = Budget(epsilon=8, steps=50)
            >>> round(budget.step(0) * 255, 3), round(budget.step(49) * 255, 3)
            (2.0, 0.125)
        """
        left = 1 - number / max(self.steps - 1, 1)
        return self.radius / 4 * (1 / 16 + 15 / 16 * left)
