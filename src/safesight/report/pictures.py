"""Pictures of samples, rendered again from their benchmark as data URIs.

A log keeps every picture of a run; a report needs only a few, and renders them from the same
description. A sample whose question differs from the logged one is not the same sample, and gets
no picture. Nothing is downloaded here.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from safesight.benchmarks import load_benchmark
from safesight.errors import SafesightError

if TYPE_CHECKING:
    from safesight.types import Sample

__all__ = ["draw", "picture_size", "to_data_uri"]

_PREFIX = "data:image/webp;base64,"

_LONGEST = 480
"""In pixels; larger pictures are scaled down for the page."""
_GAP = 8
"""Pixels between several pictures of one sample."""


def draw(
    task: str, questions: Mapping[str, str], *, total: int, seed: int
) -> dict[str, str | None]:
    """Data URIs of a task's samples; None for a sample without a picture.

    Args:
        task: A registered benchmark; for others nothing is rendered.
        questions: Logged question by sample id, for the samples to render.
        total: Number of samples of the task in the run.
        seed: Seed of the run.

    Returns:
        One entry for each sample that was found.
    """
    try:
        samples: Iterable[Sample] = load_benchmark(task)(total, seed=seed)
        return {
            sample.id: to_data_uri(_side_by_side(sample)) if sample.pictures else None
            for sample in samples
            if questions.get(sample.id) == sample.question
        }
    except SafesightError:
        return {}  # if the data set is gone, the report has no pictures


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


def to_data_uri(picture: Image.Image) -> str:
    """The picture as a WebP data URI: a fifth of the size of a PNG, and faster to encode."""
    small = picture.convert("RGB")
    small.thumbnail((_LONGEST, _LONGEST))
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
