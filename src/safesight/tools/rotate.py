"""Rotate: a picture turned clockwise, with white in the corners."""

from __future__ import annotations

import math
from typing import Any

from PIL import Image

from safesight.tools.errors import ToolError

__all__ = ["rotate"]


def rotate(picture: Image.Image, angle: Any) -> Image.Image:
    """The whole picture, turned clockwise.

    Args:
        picture: The picture to turn.
        angle: Degrees.

    Raises:
        ToolError: not a number.

    Example:
        >>> rotate(Image.new("RGB", (40, 30)), 90).size
        (30, 40)
    """
    if not isinstance(angle, int | float) or not math.isfinite(angle):
        raise ToolError("angle must be a number of degrees.")
    return picture.rotate(
        -angle, resample=Image.Resampling.BICUBIC, expand=True, fillcolor=(255, 255, 255)
    )
