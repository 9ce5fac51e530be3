"""Neutral questions about the pictures in a folder, for methods that train without labels.

The questions ask what is in a picture, in words that fit any picture. There are no answers: the
method uses the model's own, or you pass a file of rows instead. Which pictures are in the folder
is up to you.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safesight.data.pictures import opener
from safesight.errors import InputError
from safesight.types import TuningSample

if TYPE_CHECKING:
    pass

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
"""Families of questions. None of them fits threats better than other pictures."""

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


def pictures(
    n: int | None = None,
    *,
    folder: str | Path | None = None,
    per_picture: int = 2,
    seed: int = 0,
    split: Literal["train", "test"] = "train",
) -> list[TuningSample]:
    """Questions without answers about every picture in a folder and its subfolders.

    Args:
        n: Number of questions; None for `per_picture` per picture.
        folder: The folder with the pictures.
        per_picture: Questions per picture, each from a different family.
        seed: Seed of the questions, the draw and the split.
        split: One picture in ten is for "test", the others are for "train".

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
            f"{per_picture!r} questions per picture are not possible. Use 1 to {len(QUESTIONS)}."
        )
    place = Path(os.path.expanduser(folder))
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
            f"There are no pictures for {split!r} in {place}. Put some there: "
            f"{', '.join(sorted(_SUFFIXES))}."
        )
    if n is None or n >= len(rows):
        return rows
    return random.Random(f"pictures/{seed}").sample(rows, n)


def _asked(file: Path, name: str, count: int, seed: int) -> list[TuningSample]:
    rng = random.Random(f"pictures/{seed}/{name}/questions")
    return [
        TuningSample(
            id=f"{name}/{family}",
            question=rng.choice(QUESTIONS[family]),
            answer="",
            label="benign",
            set="retain",
            image=opener(file),
        )
        for family in rng.sample(list(QUESTIONS), count)
    ]
