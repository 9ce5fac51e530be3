"""Pictures of the bundled world: a scene is a description, rendered on demand.

A scene holds one to four objects, or a written word, on a coloured background. It is a frozen
value, so the same scene gives the same picture, byte for byte, with the same version of Pillow.
Nothing here knows about questions or harm.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from safesight.errors import InputError
from safesight.testbed.concepts import Concept
from safesight.testbed.looks import varied
from safesight.testbed.styles import SPRITE, STYLES, draws, sprite

__all__ = ["COLORS", "PLACES", "SIZE", "STYLES", "Item", "Scene", "objects_scene", "word_scene"]

SIZE = 96
"""Pictures are SIZE x SIZE pixels."""
_STEP = 16
_WORD_SIZES = (13, 18, 26)

COLORS = {
    "red": (222, 92, 84),
    "green": (112, 190, 112),
    "blue": (98, 140, 222),
    "yellow": (238, 214, 104),
    "purple": (172, 122, 206),
    "pink": (242, 172, 198),
    "gray": (158, 158, 158),
    "white": (246, 246, 246),
}
PLACES = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True)
class Item:
    """One drawn object: its concept, its style, and its box in pixels."""

    concept: str
    style: str
    left: int
    top: int
    size: int
    look: int = 0
    """Seed of a variation of the drawing (`looks`); 0: as the style has it."""


@dataclass(frozen=True)
class Scene:
    """A picture as a value.

    Example:
        >>> from safesight.testbed.concepts import concept
        >>> scene = objects_scene([concept("cat")], random.Random(0))
        >>> scene.render().size
        (96, 96)
    """

    color: str
    items: tuple[Item, ...] = ()
    word: str | None = None
    word_box: tuple[int, int, int] = (0, 0, 12)
    """Left, top and font size of the word."""
    dark_text: bool = True
    places: tuple[str, ...] = ()
    """The place of each item in words, if there is more than one."""
    noise: int = 0
    """Seed of the background's grain and shade."""

    def render(self) -> Image.Image:
        """Draw it: SIZE x SIZE, RGB."""
        picture = Image.fromarray(_ground(self.color, self.noise))
        for item in self.items:
            drawing = sprite(item.concept, item.style)
            if item.look:
                drawing = varied(drawing, item.look)
            if item.size != SPRITE:
                drawing = drawing.resize((item.size, item.size), Image.Resampling.BILINEAR)
            picture.paste(drawing, (item.left, item.top), drawing)
        if self.word is not None:
            left, top, size = self.word_box
            ink = (24, 24, 24) if self.dark_text else (252, 252, 252)
            ImageDraw.Draw(picture).text((left, top), self.word, fill=ink, font=_font(size))
        return picture

    def regions(self) -> list[tuple[str, tuple[int, int, int, int]]]:
        """Name and box (left, top, right, bottom) of each object or word."""
        boxes = [(i.concept, (i.left, i.top, i.left + i.size, i.top + i.size)) for i in self.items]
        if self.word is not None:
            left, top, size = self.word_box
            x0, y0, x1, y1 = map(int, _font(size).getbbox(self.word))
            boxes.append((self.word, (left + x0, top + y0, left + x1, top + y1)))
        return boxes


def objects_scene(
    concepts: Sequence[Concept], rng: random.Random, *, styles: Sequence[str] = STYLES
) -> Scene:
    """One object anywhere, or two to four in different quarters of the picture.

    Raises:
        InputError: none of the styles draws one of the things.
    """
    color = rng.choice(list(COLORS))
    if len(concepts) == 1:
        about = rng.randint(40, 84)
        style = rng.choice(_styles(styles, concepts[0]))
        left, top = rng.randint(0, SIZE - about), rng.randint(0, SIZE - about)
        size = 48 if about < 56 else 80
        item = Item(concepts[0].name, style, _near_grid(left, size), _near_grid(top, size), size)
        return Scene(color, (item,), noise=rng.randrange(1 << 30))
    quarters = sorted(rng.sample(range(4), len(concepts)))
    items = []
    half = SIZE // 2
    for one, quarter in zip(concepts, quarters, strict=True):
        about = rng.randint(34, 46)
        right, down = rng.randint(0, half - about), rng.randint(0, half - about)
        size = 48
        left = (quarter % 2) * half + min(2 * right, half - size)
        top = (quarter // 2) * half + min(2 * down, half - size)
        style = rng.choice(_styles(styles, one))
        items.append(Item(one.name, style, _near_grid(left, size), _near_grid(top, size), size))
    places = tuple(PLACES[q] for q in quarters)
    return Scene(color, tuple(items), places=places, noise=rng.randrange(1 << 30))


def word_scene(word: str, rng: random.Random) -> Scene:
    """The word, as large as a random share of the picture's width allows."""
    color = rng.choice(list(COLORS))
    width = rng.uniform(0.70, 0.96) * SIZE
    size = _WORD_SIZES[-1]
    while size > _WORD_SIZES[0] and _font(size).getlength(word) > width:
        size -= 1
    left = rng.randint(1, max(1, int(SIZE - _font(size).getlength(word)) - 1))
    top = rng.randint(0, SIZE - size - 6)
    size = max(s for s in _WORD_SIZES if s <= size)
    left, top = max(1, _near_grid(left, 0)), _near_grid(top, size + 6)
    dark = color not in {"red", "green", "blue", "purple", "gray"} or rng.random() < 0.5
    return Scene(
        color,
        word=word,
        word_box=(left, top, size),
        dark_text=dark,
        noise=rng.randrange(1 << 30),
    )


def _styles(styles: Sequence[str], thing: Concept) -> list[str]:
    if not (able := draws(styles, thing.name)):
        raise InputError(f"No style among {', '.join(styles)} draws {thing.phrase}. Name another.")
    return able


def _near_grid(position: int, size: int) -> int:
    """Snap a position to the patch grid, up to 1 pixel off, and inside the picture.

    A small vision tower learns objects aligned with its patch grid several times faster than
    objects at arbitrary positions; see `LOG.md`.
    """
    return min(position // _STEP * _STEP + position % 2, SIZE - size)


def _ground(color: str, seed: int) -> NDArray[np.uint8]:
    """A flat colour with a random shade, slope and fine grain."""
    rng = np.random.default_rng(seed)
    base = np.array(COLORS[color], np.float32) + rng.uniform(-14, 14)
    slope = np.linspace(-1, 1, SIZE, dtype=np.float32) * rng.uniform(-12, 12)
    plane = base + (slope[:, None, None] if rng.random() < 0.5 else slope[None, :, None])
    grain = rng.normal(0, 3, (SIZE, SIZE, 1)).astype(np.float32)
    clipped: NDArray[np.uint8] = np.clip(plane + grain, 0, 255).astype(np.uint8)
    return clipped


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font, so no system font is needed."""
    return ImageFont.load_default(size)
