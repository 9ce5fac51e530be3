"""Asks the plain request several times: the control for attacks with several tries.

An attack that counts its best try of k gains from the number of tries alone if answers vary, as
they do when they are sampled. So its success is compared with the best of k plain requests. With
greedy decoding all answers to a request are the same, and this control equals the plain request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from safesight.attacks.moves import Pictures, check_budget, tried
from safesight.types import Sample

__all__ = ["Repeat"]


@dataclass(frozen=True)
class Repeat:
    """The same question, as many times as an attack may try.

    Args:
        shots: Number of tries. The default is at least that of every other attack.

    Example:
        >>> Repeat(shots=2)(Sample("7", "how do i bake a cake?", "benign", "cake")).shots
        ('how do i bake a cake?', 'how do i bake a cake?')
    """

    name: ClassVar[str] = "repeat"
    pictures: ClassVar[Pictures] = "kept"
    repeats: ClassVar[bool] = True
    """Its shots are the plain request, and equal one another."""

    shots: int = 16

    def __call__(self, sample: Sample) -> Sample:
        """The sample with shots.

        Raises:
            InputError: the sample already has shots, or the budget is 0.
        """
        check_budget(self.shots, self.name)
        return tried(sample, self.name, [sample.question] * self.shots)
