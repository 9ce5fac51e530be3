"""A picture file as something that is opened when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["opener"]


def opener(path: Path) -> Callable[[], Image]:
    """What opens a picture as every picture is opened: upright, on white, and of a valid size.

    Example:
        >>> opener(Path("nosuch.png"))()
        Traceback (most recent call last):
        safesight.errors.InputError: The picture 'nosuch.png' does not exist. Check the path.
    """
    return partial(_open, path)


def _open(path: Path) -> Image:
    from safesight.models.pictures import open_picture

    return open_picture(path)
