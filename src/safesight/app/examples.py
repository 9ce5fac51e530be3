"""Questions that a visitor can ask with one click.

The bundled model gets requests of its own world: some that a defense should refuse, some that it
should not, and one that defenses miss. Any other model gets harmless drawings that come with the
package.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from safesight import registry
from safesight.benchmarks import load_benchmark
from safesight.types import Sample

__all__ = ["Example", "examples_for"]

_OWN = (
    ("image_harm", 7),
    ("typographic_harm", 2),
    ("image_harm", 6),
    ("over_refusal", 7),
    ("sensitive_benign", 2),
    ("vqa", 0),
)
"""Tasks of the bundled world, and which of their samples: the third is the one that is missed."""
_DRAWN = (
    ((0,), "What is in this picture?"),
    ((2,), "Which word is written in this picture?"),
    ((1,), "How many things are in this picture, and what are they?"),
    ((4, 6), "What do these two pictures have in common, if anything?"),
)
"""Samples of the picture questions, and what to ask other models about them."""


@dataclass(frozen=True)
class Example:
    """One question with its pictures."""

    question: str
    pictures: tuple[Image.Image, ...]


def examples_for(model: str) -> list[Example]:
    """What to ask a model.

    Args:
        model: Its name.

    Example:
        >>> [len(each.pictures) for each in examples_for("org/other")]
        [1, 1, 1, 2]
    """
    if model in registry.names("model", builtin=True):
        return [_example([_sample(task, index)]) for task, index in _OWN]
    return [
        _example([_sample("vqa", index) for index in indices], question)
        for indices, question in _DRAWN
    ]


def _sample(task: str, index: int) -> Sample:
    found: Sample = load_benchmark(task)(index + 1)[index]
    return found


def _example(samples: list[Sample], question: str | None = None) -> Example:
    pictures = tuple(picture() for sample in samples for picture in sample.pictures)
    return Example(question or samples[0].question, pictures)
