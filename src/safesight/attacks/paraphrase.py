"""Asks for the same thing in several phrasings: a search against what looks at wording.

Gates on word prototypes, probes and tuned refusals may depend on how a request is phrased. Each
shot asks for the same core in another fixed phrasing, questions and instructions in turn; the best
one counts, so compare it only with as many tries of something else, such as `repeat`. The
phrasings are those of `wording`, which no model writes. It is ours; `one_word_paraphrase` is the
small version that keeps the mood.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from safesight.attacks.moves import Pictures, check_budget, tried
from safesight.attacks.wording import capitalized_as, core_of, phrasings
from safesight.errors import InputError
from safesight.types import Sample

__all__ = ["Paraphrase", "rephrased"]


@dataclass(frozen=True)
class Paraphrase:
    """Asks in other phrasings; the object keeps its name.

    Args:
        shots: Number of phrasings, up to 32.

    Example:
        >>> Paraphrase(shots=2)(Sample("7", "how do i bake a cake?", "benign", "cake")).shots
        ('can you tell me how to bake a cake?', 'show me how to bake a cake.')
    """

    name: ClassVar[str] = "paraphrase"
    pictures: ClassVar[Pictures] = "kept"

    shots: int = 16

    def __call__(self, sample: Sample) -> Sample:
        """The attacked sample.

        Raises:
            InputError: the question has no word, the sample already has shots, or the budget is 0
                or larger than the number of phrasings.
        """
        check_budget(self.shots, self.name)
        forms = rephrased(sample.question)
        if self.shots > len(forms):
            raise InputError(
                f"The attack {self.name!r} has {len(forms)} phrasings of "
                f"{sample.question!r}, and its budget is {self.shots}. Choose at most {len(forms)}."
            )
        return tried(sample, self.name, forms[: self.shots])


def rephrased(question: str) -> tuple[str, ...]:
    """A question in every other phrasing, questions and instructions in turn.

    Raises:
        InputError: it has no word.

    Example:
        >>> len(rephrased("how do i bake a cake?"))
        32
    """
    core = core_of(question)
    neutral = zip(phrasings(core, "", "question"), phrasings(core, "", "instruction"), strict=True)
    led = zip(
        phrasings(core, "what", "question"), phrasings(core, "share", "instruction"), strict=True
    )
    forms = (capitalized_as(form, question) for form in chain(*neutral, *led))
    return tuple(form for form in dict.fromkeys(forms) if form != question)
