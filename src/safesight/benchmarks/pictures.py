"""Neutral questions about the pictures of a folder, for methods that look and do not judge.

Every picture is asked for what is in it, in words that fit any picture. There are no answers:
the method takes the model's own, or a file of rows is given instead. Which pictures lie in the
folder is up to whoever put them there.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safesight.errors import InputError
from safesight.types import TuningSample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["QUESTIONS", "pictures"]

QUESTIONS: dict[str, tuple[str, ...]] = {
    "content": ("What is shown in this picture?", "Describe the picture in one or two sentences."),
    "count": ("How many things can be seen in the foreground?",),
    "colour": ("Which colours dominate the picture?",),
    "position": ("Where in the picture is the main object, and what is beside it?",),
    "material": ("What do the main objects seem to be made of?",),
    "scene": ("What kind of place is this?",),
    "relation": ("How do the things in the picture relate to each other in space?",),
}
"""Families of questions. None of them fits threats better than anything else."""

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


def pictures(
    n: int | None = None,
    *,
    folder: str | Path | None = None,
    per_picture: int = 2,
    seed: int = 0,
    split: Literal["train", "test"] = "train",
) -> list[TuningSample]:
    """Questions without answers about every picture below a folder.

    Args:
        n: How many; None is `per_picture` for each.
        folder: Where the pictures are.
        per_picture: Questions, each of another family.
        seed: Of the questions, of the draw and of the split.
        split: A picture in ten is for "test", the others are for "train".

    Raises:
        InputError: no folder, no pictures in it, or no such split.
    """
    if folder is None:
        raise InputError(
            "Say where the pictures are: --data-option folder=DIR, or folder=... here."
        )
    if split not in ("train", "test"):
        raise InputError(f"There is no split {split!r}. Use train or test.")
    if not isinstance(per_picture, int) or not 1 <= per_picture <= len(QUESTIONS):
        raise InputError(
            f"Ask from 1 to {len(QUESTIONS)} questions a picture, not {per_picture!r}."
        )
    place = Path(folder).expanduser()
    files = sorted(p for p in place.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    names = [file.relative_to(place).as_posix() for file in files]
    rows = [
        row
        for file, name in zip(files, names, strict=True)
        if (random.Random(f"pictures/{seed}/{name}").random() < 0.1) == (split == "test")
        for row in _asked(file, name, per_picture, seed)
    ]
    if not rows:
        raise InputError(
            f"There are no pictures for {split!r} in {place}. Put some there, as one of "
            f"{', '.join(sorted(_SUFFIXES))}."
        )
    if n is None or n >= len(rows):
        return rows
    return random.Random(f"pictures/{seed}").sample(rows, n)


def _asked(file: Path, name: str, count: int, seed: int) -> list[TuningSample]:
    dice = random.Random(f"pictures/{seed}/{name}/questions")
    return [
        TuningSample(
            id=f"{name}/{family}",
            question=dice.choice(QUESTIONS[family]),
            answer="",
            label="benign",
            set="retain",
            image=partial(_open, file),
        )
        for family in dice.sample(list(QUESTIONS), count)
    ]


def _open(file: Path) -> Image:
    """As every picture is opened: turned upright, on white, of a sound size."""
    from safesight.models.pictures import open_picture

    return open_picture(file)
