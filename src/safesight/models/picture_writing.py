"""Turn a picture into a model's own tensors, as a function that can be differentiated.

A processor resizes, cuts and normalizes a picture outside of autograd. Once the picture has the
size that the processor would give it, what is left to do is to normalize it and to put every value
in its place, and that is written here, for each layout of `picture_tensors`. It is the inverse of
`last_picture`. A picture that is cut into tiles has no such inverse: its tiles are resized
separately.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.models.picture_tensors import PictureTensors, layout_of

if TYPE_CHECKING:
    from safesight.models.vlm import VLM

__all__ = ["is_one_picture", "write_picture"]


def is_one_picture(pictures: PictureTensors) -> bool:
    """Whether a row's tensors hold one whole picture, neither several nor one in tiles."""
    if not pictures:
        return False
    if layout_of(pictures) == "grid":
        return len(pictures["image_grid_thw"]) == 1
    pixels = pictures["pixel_values"]
    # A fifth dimension holds the tiles of a picture.
    return len(pixels) == 1 and pixels.dim() <= 4


def write_picture(vlm: VLM, picture: Tensor, like: PictureTensors) -> PictureTensors:
    """A row's tensors with another picture in place of theirs.

    Args:
        vlm: The model the tensors are for.
        picture: 3 x H x W, from 0 to 1, in the size that the processor gave it.
        like: The tensors of one whole picture of that size; see `is_one_picture`.

    Returns:
        The same tensors with other pixel values, through which gradients flow to `picture`.

    Example:
        >>> from safesight.models import VLM
        >>> vlm = VLM.load("testbed")
        >>> one = {"pixel_values": torch.zeros(1, 3, 4, 4)}
        >>> white = write_picture(vlm, torch.ones(3, 4, 4), one)["pixel_values"]
        >>> white.shape, round(white.max().item(), 3)
        (torch.Size([1, 3, 4, 4]), 1.0)
    """
    values = _normalized(vlm.processor.image_processor, picture)
    old = like["pixel_values"]
    layout = layout_of(like)
    if layout == "grid":
        new = _patched(vlm, values, old)
    elif layout == "placed":
        new = _placed(vlm, values, like)
    elif "pixel_attention_mask" in like:
        new = _padded(values, like["pixel_attention_mask"][0].bool())
    elif layout == "sized":
        shown = torch.zeros(old.shape[-2:], dtype=torch.bool, device=values.device)
        height, width = like["image_sizes"][0].tolist()
        shown[:height, :width] = True
        new = _padded(values, shown)
    else:
        new = values[None]
    return {**like, "pixel_values": new.to(old.dtype)}


def _normalized(settings: Any, picture: Tensor) -> Tensor:
    """What the processor makes of values from 0 to 1."""
    values = picture * 255
    if settings.do_rescale:
        values = values * settings.rescale_factor
    if settings.do_normalize:
        mean = values.new_tensor(settings.image_mean).view(-1, 1, 1)
        values = (values - mean) / values.new_tensor(settings.image_std).view(-1, 1, 1)
    return values


def _patched(vlm: VLM, values: Tensor, old: Tensor) -> Tensor:
    """Patches in the order of a vision tower that merges neighbours; frames repeat the picture."""
    settings = vlm.processor.image_processor
    merge, patch = int(settings.merge_size), int(settings.patch_size)
    _, height, width = values.shape
    rows, columns = height // patch, width // patch
    if old.dim() == 4:  # Kimi's: row by row, each patch in three dimensions
        patches = values.reshape(3, rows, patch, columns, patch).permute(1, 3, 0, 2, 4)
        return patches.reshape(-1, 3, patch, patch).repeat(len(old) // (rows * columns), 1, 1, 1)
    cut = values.reshape(3, rows // merge, merge, patch, columns // merge, merge, patch)
    patches = cut.permute(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
    frames = old.shape[1] // (3 * patch * patch)
    return patches.expand(*patches.shape[:5], frames, patch, patch).reshape(old.shape)


def _placed(vlm: VLM, values: Tensor, like: PictureTensors) -> Tensor:
    """Patches in the places that `image_position_ids` names."""
    old, places = like["pixel_values"], like["image_position_ids"][0]
    patch = int(vlm.processor.image_processor.patch_size)
    real = (places >= 0).all(dim=-1)
    columns, rows = places[real].unbind(dim=-1)
    _, height, width = values.shape
    cut = values.reshape(3, height // patch, patch, width // patch, patch).permute(1, 3, 2, 4, 0)
    new = torch.zeros_like(old[0], dtype=values.dtype)
    new[real] = cut[rows, columns].flatten(1)
    return new[None]


def _padded(values: Tensor, shown: Tensor) -> Tensor:
    """The picture where `shown` (H x W) is true, and zeros elsewhere."""
    new = values.new_zeros(3, *shown.shape)
    new[:, shown] = values.flatten(1)
    return new[None]
