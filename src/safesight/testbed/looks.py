"""Small variations of a drawing: mirrored, turned, paler or brighter.

For training only: an eye that sees every drawing in one form learns the form by heart. No task of
the bundled world varies its drawings.
"""

from __future__ import annotations

import random

from PIL import Image, ImageEnhance, ImageOps

__all__ = ["varied"]

_TURN = 15
"""Degrees, at most, to either side."""
_LEAST, _MOST = 0.6, 1.4
"""Factors of saturation, contrast and brightness."""


def varied(drawing: Image.Image, seed: int) -> Image.Image:
    """The drawing, half of the time mirrored, half of the time turned, with other colours."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        drawing = ImageOps.mirror(drawing)
    if rng.random() < 0.5:
        turn = rng.uniform(-_TURN, _TURN)
        drawing = drawing.rotate(turn, Image.Resampling.BILINEAR)
    alpha = drawing.getchannel("A")
    colors = drawing.convert("RGB")
    for change in (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness):
        colors = change(colors).enhance(rng.uniform(_LEAST, _MOST))
    colors.putalpha(alpha)
    return colors
