"""Zoom: a region of a picture, as large as the picture was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from PIL import Image

from safesight.tools.errors import ToolError

__all__ = ["MIN_SIDE", "BoxUnit", "zoom"]

BoxUnit = Literal["thousandths", "pixels"]
"""The unit of a family's boxes: thousandths of the picture's sides, or pixels."""

MIN_SIDE = 16
"""In pixels; smaller boxes are enlarged around their center. Qwen-Agent: 32, larger pictures."""


def zoom(picture: Image.Image, box: Sequence[Any], unit: BoxUnit) -> Image.Image:
    """The region in the box, its longer side as long as the picture's.

    Args:
        picture: The picture to zoom into.
        box: Left, top, right, bottom; clipped to the picture.
        unit: The unit of the box.

    Raises:
        ToolError: the box is not four numbers, or is empty.

    Example:
        >>> zoom(Image.new("RGB", (100, 80)), [0, 0, 500, 500], "thousandths").size
        (100, 80)
    """
    left, right = _side(box, 0, picture.width, unit)
    top, bottom = _side(box, 1, picture.height, unit)
    region = picture.crop((left, top, right, bottom))
    scale = max(picture.size) / max(region.size)
    size = [max(1, round(side * scale)) for side in region.size]
    return region.resize((size[0], size[1]), Image.Resampling.BICUBIC)


def _side(box: Sequence[Any], axis: int, length: int, unit: BoxUnit) -> tuple[int, int]:
    """The start and end of the region along one axis, in pixels."""
    numbers = isinstance(box, Sequence) and not isinstance(box, str) and len(box) == 4
    if not numbers or not all(isinstance(n, int | float) and math.isfinite(n) for n in box):
        raise ToolError("bbox_2d must be four numbers: left, top, right, bottom.")
    scale = length / 1000 if unit == "thousandths" else 1.0
    low, high = (min(max(box[i] * scale, 0), length) for i in (axis, axis + 2))
    if high <= low:
        raise ToolError("bbox_2d is empty: right must be larger than left, bottom than top.")
    missing = min(MIN_SIDE, length) - (high - low)
    if missing > 0:
        low = min(max(low - missing / 2, 0), length - min(MIN_SIDE, length))
        high = low + min(MIN_SIDE, length)
    return math.floor(low), math.ceil(high)
