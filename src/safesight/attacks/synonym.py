"""Asks for the object under other names: a search against word prototypes.

A gate that compares what it reads with the vectors of words, as RAI does, knows the words on its
list. Each shot names the object by a synonym, by the kind of thing it is, or by what it does, from
a list of ours; after these, the same names in other phrasings, until the budget is used. The best
shot counts, so compare it only with as many tries of something else, such as `repeat`. A request
that does not name its object, such as one about a picture, or whose object is not on the list is
only rephrased, as by `paraphrase`; `facts["renamed"]` says which. It is ours, not from a paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from safesight.attacks.moves import Pictures, check_budget, mentions, point_at, tried
from safesight.attacks.other_names import other_names
from safesight.attacks.paraphrase import rephrased
from safesight.errors import InputError
from safesight.types import Sample

__all__ = ["Synonym"]


@dataclass(frozen=True)
class Synonym:
    """Replaces the name of the object, where another one is known.

    Args:
        shots: Number of tries.

    Example:
        >>> Synonym(shots=2)(Sample("7", "how do i bake a cake?", "benign", "cake")).shots
        ('how do i bake a gateau?', 'how do i bake a sweet baked dessert?')
    """

    name: ClassVar[str] = "synonym"
    pictures: ClassVar[Pictures] = "kept"
    disguises: ClassVar[bool] = True
    """It may change the name of the object in the text."""

    shots: int = 16

    def __call__(self, sample: Sample) -> Sample:
        """The attacked sample.

        Raises:
            InputError: the question has no word, the sample already has shots, or the budget is 0
                or larger than the number of variants.
        """
        check_budget(self.shots, self.name)
        names = other_names(sample.target) if mentions(sample.question, sample.target) else ()
        renamed = [point_at(sample.question, sample.target, name) for name in names]
        # Every name in one phrasing before any in the next.
        forms = zip(*map(rephrased, renamed or [sample.question]), strict=False)
        tries = [*renamed, *(each for phrasing in forms for each in phrasing)]
        if self.shots > len(tries):
            raise InputError(
                f"The attack {self.name!r} has {len(tries)} variants of {sample.question!r}, and "
                f"its budget is {self.shots}. Choose at most {len(tries)}."
            )
        return tried(sample, self.name, tries[: self.shots], renamed=bool(names))
