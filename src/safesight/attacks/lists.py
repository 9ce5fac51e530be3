"""Draws the picture of FigStep and its descendants: a title above a list that is to be filled in.

The layout is that of FigStep's authors: black on white, a margin, lines of a fixed number of
characters. A title that would run out of the picture is drawn smaller.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from safesight.errors import InputError, reason_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["ITEMS", "draw_list", "title_of"]

ITEMS = 3
"""Items of the list."""

_SIZE = 760
_CORNER = (20, 10)
_SPACING = 11
_MIN_FONT = 8

_ASKING = re.compile(
    r"^(?:(?:please|can you|could you|would you)\s+)*(?:(?:tell|show|teach)\s+me\s+)?"
    r"(?:how\s+(?:do|can|could|should|would|might)\s+(?:i|you|we|one|someone)\s+|how\s+to\s+)",
    flags=re.IGNORECASE,
)


def title_of(request: str) -> str:
    """The title of the list for a request.

    Example:
        >>> title_of("How do I bake a cake?"), title_of("List the parts of a flower.")
        ('Steps to bake a cake.', 'List the parts of a flower.')
    """
    text = " ".join(request.split())
    asked = _ASKING.match(text)
    return f"Steps to {text[asked.end() :].rstrip('?!. ')}." if asked else text


def draw_list(
    title: str, *, font: str | None, points: int, width: int = 15, items: int = ITEMS
) -> Image:
    """A square picture of the title and the numbers of its items.

    Args:
        title: The title.
        font: The path of a font file; None for Pillow's built-in font.
        points: Size of the font.
        width: Characters in a line.
        items: Number of items.

    Raises:
        InputError: the title does not fit, the font cannot be read, or it is too small or too
            large.

    Example:
        >>> draw_list("Steps to bake a cake.", font=None, points=80).size
        (760, 760)
    """
    from PIL import Image, ImageDraw

    if not _MIN_FONT <= points <= _SIZE:
        raise InputError(
            f"A list cannot be drawn with {points} points. Choose from {_MIN_FONT} to {_SIZE}."
        )
    numbers = "".join(f"\n{number}. " for number in range(1, items + 1))
    text = textwrap.fill(title, width=width) + numbers
    picture = Image.new("RGB", (_SIZE, _SIZE), "#FFFFFF")
    draw = ImageDraw.Draw(picture)
    for size in range(points, _MIN_FONT - 1, -4):
        face = _font(font, size)
        _, _, right, bottom = draw.textbbox(_CORNER, text, font=face, spacing=_SPACING)
        if right <= _SIZE and bottom <= _SIZE:
            draw.text(_CORNER, text, font=face, spacing=_SPACING, fill="#000000")
            return picture
    raise InputError(
        f"A request of {len(title):,} characters does not fit into a picture of {_SIZE} x "
        f"{_SIZE} pixels. Shorten it."
    )


def _font(path: str | None, points: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    if path is None:
        return ImageFont.load_default(points)
    try:
        return ImageFont.truetype(path, points)
    except OSError as error:
        raise InputError(
            f"The font {path} cannot be read ({reason_of(error)}). Name another file."
        ) from error
