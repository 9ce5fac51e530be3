"""What a published benchmark says about itself: where it is, what belongs to it, how it is asked.

The facts of a benchmark are data, so that its card, the list of tasks and the checks all read the
same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["JUDGE", "Group", "Spec"]

Group = Literal["attacks", "over-refusal", "utility"]
"""What a published benchmark measures."""

JUDGE = "rules"
"""The judge of a published benchmark if none is named."""


@dataclass(frozen=True)
class Spec:
    """The facts of one published benchmark."""

    name: str
    """As a task."""
    title: str
    """As its authors write it."""
    group: Group
    version: str
    license: str
    """As its authors state it."""
    paper: str
    source: str
    """The authors' page."""
    get: str
    """How to get it, as the end of a sentence that begins with "To get it, "."""
    folder: str
    """Its folder below the one that `SAFESIGHT_DATA` names."""
    split: str
    counts: Mapping[str, int]
    """Prompts per value of the fact `counted`, as published."""
    prompt: str
    """How a prompt is put to the model; words in braces are fields of the data."""
    max_new_tokens: int
    authors_length: str
    """The length of answers that the authors set, and where that is written."""
    authors_judge: str
    deviations: tuple[str, ...] = ()
    """Where a run here differs from one by the authors."""
    counted: str = "category"
    gate: str = ""
    """What stands before a download; empty if nothing does."""
    hub: str = ""
    """Its data set on the hub; empty if it is not downloaded from there."""
    revision: str = ""
    """The commit on the hub, or in the authors' repository; empty if it is not pinned."""
    files: tuple[str, ...] = ()
    """Patterns of the files to download from the hub."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Hashes of files by name, where they could be verified."""
    judge: str = JUDGE
    paired: bool = False
    """Whether the authors also count the groups of questions that are all answered right."""

    @property
    def size(self) -> int:
        """The published number of prompts."""
        return sum(self.counts.values())
