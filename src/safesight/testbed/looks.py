"""Small variations of a drawing: mirrored, turned, moved, in another size or in other colours.

For training only: an eye that sees every drawing in one form learns the form by heart. No task of
the bundled world varies its drawings.
"""

from __future__ import annotations

import random

from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

__all__ = ["varied"]

_TURN = 15
"""Degrees, at most, to either side."""
_LEAST, _MOST = 0.6, 1.4
"""Factors of saturation, contrast and brightness."""
_SMALLEST = 0.7
"""Share of its place that a drawing fills, at least."""
_INK = (40, 40, 40)


def varied(drawing: Image.Image, seed: int) -> Image.Image:
    """The drawing, half of the time mirrored, turned, or moved; and in other colours."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        drawing = ImageOps.mirror(drawing)
    if rng.random() < 0.5:
        turn = rng.uniform(-_TURN, _TURN)
        drawing = drawing.rotate(turn, Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        drawing = _moved(drawing, rng)
    alpha = drawing.getchannel("A")
    colors = _recolored(drawing.convert("RGB"), rng)
    if rng.random() < 0.2:
        colors, alpha = _outlined(colors, alpha)
    colors.putalpha(alpha)
    return colors


def _moved(drawing: Image.Image, rng: random.Random) -> Image.Image:
    """Smaller, and somewhere in the same place."""
    width, height = drawing.size
    size = (round(width * rng.uniform(_SMALLEST, 1)), round(height * rng.uniform(_SMALLEST, 1)))
    left, top = rng.randint(0, width - size[0]), rng.randint(0, height - size[1])
    placed = Image.new("RGBA", drawing.size)
    placed.paste(drawing.resize(size, Image.Resampling.BILINEAR), (left, top))
    return placed


def _recolored(colors: Image.Image, rng: random.Random) -> Image.Image:
    """Paler or stronger; sometimes with all hues turned, or as a grey picture."""
    roll = rng.random()
    if roll < 0.15:
        hue, *rest = colors.convert("HSV").split()
        shift = rng.randrange(256)
        turned = hue.point(lambda value: (value + shift) % 256)
        colors = Image.merge("HSV", (turned, *rest)).convert("RGB")
    elif roll < 0.25:
        colors = colors.convert("L").convert("RGB")
    for change in (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness):
        colors = change(colors).enhance(rng.uniform(_LEAST, _MOST))
    return colors


def _outlined(colors: Image.Image, alpha: Image.Image) -> tuple[Image.Image, Image.Image]:
    """With a dark line around it, as some sets draw."""
    wider = alpha.filter(ImageFilter.MaxFilter(3))
    inner = alpha.filter(ImageFilter.MinFilter(3))
    line = ImageChops.subtract(wider, inner)
    colors = colors.copy()
    colors.paste(_INK, mask=line)
    return colors, wider
