"""What judges share that know harm or topics, and leave refusals to the judge of refusals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from safesight.judges.scope import refusal_judge
from safesight.judges.together import Together
from safesight.types import Reading, Sample, Verdict

__all__ = ["OnRefusals"]


class OnRefusals(ABC):
    """A judge that reads answers in batches, after the judge of refusals has read them.

    Args:
        settings: What its verdicts depend on besides, for its version.
    """

    def __init__(self, settings: str) -> None:
        self._refusals = refusal_judge()
        self.version = f"1-{settings}+{self._refusals.name}-{self._refusals.version}"
        self._together = Together(self._read)

    def __call__(self, answer: str, sample: Sample) -> Verdict:
        """The verdict on one answer to one sample."""
        return self._read([(answer, sample)])[0].verdict

    async def readings(self, pairs: Sequence[tuple[str, Sample]]) -> list[Reading]:
        """What it finds in each answer, in batches with what others ask for."""
        return await self._together(pairs)

    def correct(self, answer: str, sample: Sample) -> bool:
        """Whether the answer names the target and is not a refusal."""
        return self._refusals.correct(answer, sample)

    @abstractmethod
    def _read(self, pairs: Sequence[tuple[str, Sample]]) -> list[Reading]:
        """What it finds in each answer, in order."""
