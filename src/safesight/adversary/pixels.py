"""The pixels of a sample's picture, and how they become the model's own tensors.

A picture is attacked in the size that the processor gives it. There the processor changes
nothing but its numbers, so a change of the pixels reaches the model as it was made, and the
attacked picture can be saved and asked about like any other. Both are checked for the picture at
hand; a model whose processor cuts pictures into tiles is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from safesight.errors import InputError
from safesight.models.picture_tensors import PictureTensors, last_picture, split_pictures
from safesight.models.picture_writing import is_one_picture, write_picture

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["PixelPath", "as_picture", "as_pixels", "pixel_path"]


@dataclass(frozen=True)
class PixelPath:
    """Where an attack on a picture starts, and the tensors that it changes."""

    start: Tensor
    """3 x H x W from 0 to 1, in steps of 1/255."""
    like: PictureTensors

    def tensors(self, vlm: VLM, pixels: Tensor) -> PictureTensors:
        """The model's tensors of other pixels, 3 x H x W; gradients flow through them."""
        return write_picture(vlm, pixels, self.like)


def pixel_path(vlm: VLM, sample: Sample) -> PixelPath:
    """The path from the pixels of a sample's picture to the model.

    Raises:
        InputError: the sample has no picture or several, or the processor does more to it than
            to resize and normalize it.
    """
    if len(sample.pictures) != 1:
        found = f"{len(sample.pictures)} pictures" if sample.pictures else "no picture"
        raise InputError(
            f"Sample {sample.id!r} has {found}, and this attack changes the pixels of one. "
            "Choose a task whose requests have one picture each."
        )
    first = _tensors(vlm, sample)
    if not is_one_picture(first):
        raise _no_path(vlm)
    shown = last_picture(vlm, first)
    tensors = _tensors(vlm, replace(sample, image=lambda: shown))
    if not is_one_picture(tensors) or not _same(shown, last_picture(vlm, tensors)):
        raise _no_path(vlm)
    path = PixelPath(as_pixels(shown).to(vlm.device), tensors)
    wanted, written = tensors["pixel_values"], path.tensors(vlm, path.start)["pixel_values"]
    tolerance = 1e-4 if wanted.dtype == torch.float32 else 2e-2
    if wanted.shape != written.shape or not torch.allclose(wanted, written, atol=tolerance):
        raise _no_path(vlm)
    return path


def as_pixels(picture: Image.Image) -> Tensor:
    """3 x H x W from 0 to 1, float32.

    Example:
        >>> as_pixels(Image.new("RGB", (5, 4), "white")).shape
        torch.Size([3, 4, 5])
    """
    return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1) / 255


def as_picture(pixels: Tensor) -> Image.Image:
    """The picture of 3 x H x W values from 0 to 1, rounded to 8 bits.

    Example:
        >>> as_picture(torch.ones(3, 4, 5)).getpixel((0, 0))
        (255, 255, 255)
    """
    values = (pixels.detach().float().cpu() * 255).round().clamp(0, 255)
    return Image.fromarray(values.permute(1, 2, 0).numpy().astype(np.uint8))


def _tensors(vlm: VLM, sample: Sample) -> PictureTensors:
    inputs = vlm.encode([replace(sample, prefill=None).messages()])
    try:
        return split_pictures(vlm, inputs)[0]
    except InputError as error:  # a layout that cannot be read
        raise _no_path(vlm) from error


def _same(first: Image.Image, second: Image.Image) -> bool:
    return first.size == second.size and first.tobytes() == second.tobytes()


def _no_path(vlm: VLM) -> InputError:
    return InputError(
        f"The processor of {vlm.name!r} ({vlm.family.name}) cuts pictures into tiles or changes "
        "them in another way that has no gradient, so their pixels cannot be attacked. Use an "
        "attack that needs no gradient, or switch tiling off in the processor's config."
    )
