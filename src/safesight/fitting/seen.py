"""The rows of one's own that a fit saw, so that an evaluation can leave them out.

An artifact that was fitted on somebody's file keeps a list of the rows of that file: its id,
group and split, and a hash of what the model is shown. No question is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from safesight.data import Split
from safesight.fitting.contents import check_file
from safesight.fitting.data import FitData
from safesight.types import Label, Messages, Sample, pixels_of

__all__ = ["Seen", "SplitRow", "marked", "read_split", "rows_of", "split_hash", "split_text"]

_WIDTH = 16
"""Hexadecimal digits of a hash: 64 bits, so that no two rows of a file collide."""
_MAX_BYTES = 1 << 28


class SplitRow(BaseModel):
    """One row of a file that was divided for a fit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    split: Split
    id: str
    label: Label
    group: str | None
    text: str
    """Hash of all text that the model is shown."""
    shown: str
    """Hash of the text and the pixels of the pictures."""


def rows_of(data: FitData, test: Sequence[Sample] = ()) -> list[SplitRow]:
    """The rows of a fit, and those that were kept for the test.

    Example:
        >>> one, other = (Sample(str(i), f"{i}?", label, "") for i, label in
        ...               enumerate(["harmful", "benign"]))
        >>> [row.split for row in rows_of(FitData([one], [other]))]
        ['fit', 'fit']
    """
    fitted = marked("fit", [*data.harmful, *data.benign])
    trained = [
        SplitRow(split="fit", id=row.id, label=row.label, group=None, **_hashes(row.messages()))
        for row in data.tuning
    ]
    asked = {(row.id, row.shown) for row in fitted}  # prompts that are trained on are in both
    trained = [row for row in trained if (row.id, row.shown) not in asked]
    calibration = marked("calibration", data.calibration_benign)
    return [*fitted, *trained, *calibration, *marked("test", test)]


def marked(split: Split, samples: Iterable[Sample]) -> list[SplitRow]:
    """The rows of samples that are all in one split."""
    return [
        SplitRow(
            split=split,
            id=sample.id,
            label=sample.label,
            group=_group(sample),
            **_hashes(sample.messages()),
        )
        for sample in samples
    ]


def _group(sample: Sample) -> str | None:
    group = sample.facts.get("group")
    return None if group is None else str(group)


def _hashes(messages: Messages) -> dict[str, str]:
    text = _text_hash(messages)
    pixels = hashlib.sha256(text.encode())
    for turn in messages:
        for part in turn["content"]:
            if part["type"] == "image":
                picture = part["image"]
                pixels.update(pixels_of(picture))
    return {"text": text, "shown": pixels.hexdigest()[:_WIDTH]}


def _text_hash(messages: Messages) -> str:
    """A begun answer does not count: the request is the same with it and without."""
    turns = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    words = [
        [turn["role"], *(" ".join(p["text"].split()) for p in turn["content"] if "text" in p)]
        for turn in turns
    ]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:_WIDTH]


def split_text(rows: Iterable[SplitRow]) -> str:
    """The rows as JSON Lines."""
    return "".join(f"{row.model_dump_json()}\n" for row in rows)


def split_hash(rows: Iterable[SplitRow]) -> str:
    """Hex hash of all rows in order."""
    return hashlib.sha256(split_text(rows).encode()).hexdigest()


def read_split(path: Path, expected: str) -> tuple[SplitRow, ...]:
    """The rows of a file that `split_text` made.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else than what has the expected hash.
    """
    check_file(path, _MAX_BYTES)
    text = path.read_bytes()
    if hashlib.sha256(text).hexdigest() != expected:
        raise ValueError(f"{path.name} has changed since it was saved")
    return tuple(SplitRow.model_validate_json(line) for line in text.splitlines())


@dataclass(frozen=True)
class Seen:
    """What the fits of a run saw of one's own rows."""

    shown: frozenset[str]
    texts: frozenset[str]
    groups: frozenset[str]
    ids: frozenset[str]

    @classmethod
    def by(cls, splits: Iterable[Sequence[SplitRow]]) -> Seen:
        """What any of these fits saw; rows kept for the test do not count."""
        rows = [row for split in splits for row in split if row.split != "test"]
        return cls(
            frozenset(row.shown for row in rows),
            frozenset(row.text for row in rows),
            frozenset(row.group for row in rows if row.group is not None),
            frozenset(row.id for row in rows),
        )

    def among(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples that were seen, or that ask for the same thing as one that was.

        Groups count only if one sample was seen itself: the names of groups in another file mean
        other things.

        Example:
            >>> rows = [Sample(str(i), f"{i}?", "harmful", "", facts={"group": str(i // 2)})
            ...         for i in range(6)]
            >>> seen = Seen.by([rows_of(FitData(rows[:1], ()))])
            >>> [sample.id for sample in seen.among(rows)], seen.among(rows[1:])
            (['0', '1'], [])
        """
        found = {sample.id for sample in samples if self._has(sample)}
        if found:
            found |= {s.id for s in samples if _group(s) in self.groups}
        return [sample for sample in samples if sample.id in found]

    def _has(self, sample: Sample) -> bool:
        """Pictures are opened only where the text was seen."""
        if not self.texts or _text_hash(sample.without_pictures().messages()) not in self.texts:
            return False
        return _hashes(sample.messages())["shown"] in self.shown
