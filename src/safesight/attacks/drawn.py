"""Draws harmless pictures, for attacks that need some beside the picture of the request.

They hold shapes in random colors and nothing to recognize. The same seed gives the same picture.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["draw_shapes"]

_SHAPES = 12


def draw_shapes(seed: str, side: int = 336) -> Image:
    """A square picture of a dozen shapes.

    Args:
        seed: Seed of the drawing.
        side: Width and height in pixels.

    Example:
        >>> draw_shapes("7", 64).tobytes() == draw_shapes("7", 64).tobytes()
        True
    """
    from PIL import Image, ImageDraw

    rng = random.Random(seed)
    picture = Image.new("RGB", (side, side), _color(rng))
    draw = ImageDraw.Draw(picture)
    for _ in range(_SHAPES):
        center = rng.randrange(side), rng.randrange(side)
        radius = rng.uniform(0.08, 0.25) * side
        corners = rng.choice((3, 4, 5, 6, 0))
        if corners:
            draw.regular_polygon((center, radius), corners, rng.randrange(360), fill=_color(rng))
        else:
            draw.circle(center, radius, fill=_color(rng))
    return picture


def _color(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)
