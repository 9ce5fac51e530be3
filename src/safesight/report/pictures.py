"""Pictures of samples for a report, as data URIs.

A log keeps every picture of a run; a report needs only a few. `Album` renders them again from their
benchmark, drawn as the run drew it, and attacks only those that are shown. A sample whose question
differs from the logged one is not the same sample, and gets no picture. Pictures that were crafted
for a run lie in its folder, and are read there. Nothing is downloaded here.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from safesight.benchmarks import load_benchmark, under_attack
from safesight.compare.searches import crafted_file
from safesight.errors import SafesightError
from safesight.fitting.facts import Facts, select
from safesight.grammar import UNDEFENDED, task_parts
from safesight.models import open_picture

if TYPE_CHECKING:
    from safesight.compare import Provenance
    from safesight.evals import Answer
    from safesight.types import Sample

__all__ = ["Album", "Crafted", "Tried", "crafted_pictures", "picture_size", "to_data_uri"]

_PREFIX = "data:image/webp;base64,"

_LONGEST = 480
"""In pixels; larger pictures are scaled down for the page."""
_CRAFTED = 240
"""The same for crafted pictures, of which a page shows one for each arm."""
_GAP = 8
"""Pixels between several pictures of one sample."""


@dataclass
class Album:
    """The samples of a run, drawn again as it drew them; each benchmark is drawn once.

    Args:
        seed: Seed of the run.
        limit: Samples drawn per task; None for each benchmark's own number.
        only: Facts of the samples that were asked, of those drawn.
        known: Whether the limit is; else it is the number of samples that were asked.
    """

    seed: int = 0
    limit: int | None = None
    only: Facts = field(default_factory=dict)
    known: bool = True
    _drawn: dict[tuple[str, int | None], list[Sample]] = field(init=False, default_factory=dict)

    @classmethod
    def of(cls, provenance: Provenance) -> Album:
        """That of the run that a scorecard is about."""
        noted = provenance.seed is not None
        return cls(provenance.seed or 0, provenance.limit, provenance.only, noted)

    def pictures(self, task: str, shown: Mapping[str, Answer], total: int) -> dict[str, str | None]:
        """Data URIs of a task's samples; None for a sample without a picture.

        Args:
            task: A registered benchmark, under attack or not; for others nothing is rendered. A
                sample with a crafted picture gets the one that it had before.
            shown: An answer to each sample to render, by the sample's id.
            total: Number of samples of the task in the run.

        Returns:
            One entry for each sample that was found.
        """
        return {id: _drawn(sample) for id, sample in self._found(task, shown, total)}

    def tries(
        self, task: str, shown: Mapping[str, Answer], numbers: Mapping[str, Set[int]], total: int
    ) -> dict[str, dict[int, Tried]]:
        """What was asked in some of the tries of a task's samples.

        Args:
            task: As for `pictures`.
            shown: As for `pictures`.
            numbers: Which tries of each sample, counted from 0.
            total: As for `pictures`.
        """
        return {
            id: {
                number: Tried(shot.question, _drawn(shot))
                for number, shot in enumerate(sample.tries())
                if number in numbers[id]
            }
            for id, sample in self._found(task, shown, total)
        }

    def _found(
        self, task: str, shown: Mapping[str, Answer], total: int
    ) -> list[tuple[str, Sample]]:
        """The samples that answers are about, by id; none if the data set is gone."""
        crafted = all("crafted" in answer.facts for answer in shown.values())
        # What was crafted stands last in the name, and is known only where it was crafted.
        before = task.rpartition("+")[0] if crafted else task
        asked = {id.rpartition("+")[0] if crafted else id: id for id in shown}
        try:
            return [
                (asked[sample.id], sample)
                for sample in self._again(before, set(map(_origin, shown.values())), total)
                if sample.id in asked and shown[asked[sample.id]].question == sample.question
            ]
        except SafesightError:
            return []

    def _again(self, task: str, origins: Set[str], total: int) -> list[Sample]:
        """Samples of a task, under its attacks; only some are attacked, as that may be slow."""
        benchmark, attacks = task_parts(task)
        samples = self._samples(benchmark, self._count(total))
        if not attacks:
            return samples
        # A benchmark may itself be one of attacked requests.
        wanted = [s for s in samples if s.id in origins or s.facts.get("plain") in origins]
        return under_attack(wanted, attacks)

    def _count(self, total: int) -> int | None:
        """How many samples were drawn; a folder may hold tasks of runs with several limits."""
        if self.known:
            return None if self.limit is None else max(self.limit, total)
        return total

    def _samples(self, benchmark: str, count: int | None) -> list[Sample]:
        key = (benchmark, count)
        if key not in self._drawn:
            drawn = load_benchmark(benchmark)(count, seed=self.seed)
            self._drawn[key] = select(drawn, self.only, benchmark)
        return self._drawn[key]


def _origin(answer: Answer) -> str:
    """The id of the sample before it was attacked."""
    return str(answer.facts.get("plain", answer.sample_id))


@dataclass(frozen=True)
class Tried:
    """What was asked in one of several tries."""

    question: str
    picture: str | None
    """A data URI; None if the try has no picture."""


@dataclass(frozen=True)
class Crafted:
    """A picture that was crafted for a run."""

    made: str
    """How, in words."""
    picture: str
    """A data URI."""


def crafted_pictures(log_dir: Path, answers: Iterable[Answer]) -> Iterator[Crafted]:
    """The pictures that answers are about, each once, if they were crafted and are still there.

    Args:
        log_dir: The folder of the run.
        answers: Those of all arms to one sample.
    """
    files = (crafted_file(log_dir, answer) for answer in answers)
    for file in dict.fromkeys(file for file in files if file is not None):
        try:
            yield Crafted(_made(file), to_data_uri(open_picture(file), _CRAFTED))
        except SafesightError:  # damaged
            continue


def _made(file: Path) -> str:
    """How a picture was crafted, from the folder that it is in."""
    against = file.parent.parent.name
    if against == "noise":
        return "moved at random"
    named = "the undefended model" if against == UNDEFENDED else against.replace("_", " ")
    return f"searched on {named}"


def _drawn(sample: Sample) -> str | None:
    return to_data_uri(_side_by_side(sample)) if sample.pictures else None


def _side_by_side(sample: Sample) -> Image.Image:
    """All pictures of a sample in a row."""
    pictures = [picture().convert("RGB") for picture in sample.pictures]
    if len(pictures) == 1:
        return pictures[0]
    for picture in pictures:
        picture.thumbnail((_LONGEST, _LONGEST))
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + _GAP
    return sheet


def to_data_uri(picture: Image.Image, longest: int = _LONGEST) -> str:
    """The picture as a WebP data URI: a fifth of the size of a PNG, and faster to encode."""
    small = picture.convert("RGB")
    small.thumbnail((longest, longest))
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=90)
    return _PREFIX + base64.b64encode(buffer.getvalue()).decode("ascii")


def picture_size(uri: str) -> tuple[int, int]:
    """Width and height of a picture of `to_data_uri`, so that a page keeps room for it.

    Raises:
        ValueError: it is no such picture.
    """
    if not uri.startswith(_PREFIX):
        raise ValueError("not a WebP picture as a data URI")
    try:
        data = base64.b64decode(uri.removeprefix(_PREFIX), validate=True)
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as picture:
            return picture.size
    except UnidentifiedImageError as error:
        raise ValueError("not a WebP picture as a data URI") from error
