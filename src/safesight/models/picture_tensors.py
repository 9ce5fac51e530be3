"""The pictures in a batch of model inputs: split them by row, read them back, add one.

`generate` gets tensors, not pictures, and each family lays them out differently:

flat    `pixel_values` n x 3 x H x W, one entry per picture or tile (LLaVA, Gemma 3, InternVL)
sized   one padded entry per picture, with its size in `image_sizes` (LLaVA-NeXT, Mistral 3)
grid    one row of patches for all pictures, split by `image_grid_thw` (Qwen-VL, GLM-V, Kimi)
placed  n x patches x values, padded, with a place for each patch (Gemma 4)
rows    B x tiles x 3 x H x W, padded to the largest number of tiles (Idefics 3, SmolVLM)

`split_pictures` assigns them to the rows of the batch, `join_pictures` combines them again, and
`last_picture` turns a row's last one back into the picture the model was shown. That is the
picture after the processor's resizing, exact to its 8 bits in float32; for a tiled picture it is
the overview, not the tiles. Nothing here knows what the pictures are for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from safesight.errors import InputError

if TYPE_CHECKING:
    from safesight.models.vlm import VLM

__all__ = [
    "PictureTensors",
    "join_pictures",
    "last_picture",
    "layout_of",
    "picture_tokens",
    "refuse_videos",
    "split_pictures",
]

PictureTensors = dict[str, Tensor]
"""One row's part of every tensor in `TENSORS`; empty if it has no picture."""

Layout = Literal["flat", "sized", "grid", "placed", "rows"]

_PLACES = "image_position_ids"
TENSORS = ("pixel_values", "pixel_attention_mask", "image_sizes", "image_grid_thw", _PLACES)


def split_pictures(vlm: VLM, inputs: Mapping[str, Any]) -> list[PictureTensors]:
    """The pictures of each row.

    Args:
        vlm: The model the inputs are for.
        inputs: `input_ids`, B x L, and the tensors of `TENSORS`.

    Returns:
        B mappings, in row order.

    Raises:
        InputError: the layout is not known, or there is a video.
    """
    refuse_videos(inputs)
    tensors = {name: inputs[name] for name in TENSORS if isinstance(inputs.get(name), Tensor)}
    tokens = vlm.image_mask(inputs).sum(dim=1).tolist()
    if not sum(tokens):
        return [{} for _ in tokens]
    _refuse_unknown(vlm, inputs, tensors)
    layout = layout_of(tensors)
    if layout == "rows":
        return [_real_tiles(tensors, row) if count else {} for row, count in enumerate(tokens)]
    if layout == "flat":
        entries = len(tensors["pixel_values"])
        counts = [count * entries // sum(tokens) for count in tokens]
        if any(count * entries % sum(tokens) for count in tokens):
            raise _unknown(vlm)
        return _dealt(tensors, counts)
    each = picture_tokens(vlm, tensors)
    pictures = None if each is None else _pictures_of_rows(each, tokens)
    if pictures is None:
        raise _unknown(vlm)
    if layout in ("sized", "placed"):
        return _dealt(tensors, pictures)
    grids = torch.split(tensors["image_grid_thw"], pictures)
    patches = [int(grid.prod(dim=1).sum()) for grid in grids]
    pixels = torch.split(tensors["pixel_values"], patches)
    return [
        {"pixel_values": values, "image_grid_thw": grid} if len(grid) else {}
        for values, grid in zip(pixels, grids, strict=True)
    ]


def refuse_videos(inputs: Mapping[str, Any], name: str = "This defense") -> None:
    """Refuse a video, which would pass by what only sees pictures.

    Raises:
        InputError: there is one.
    """
    if inputs.get("pixel_values_videos") is not None:
        raise InputError(
            f"{name} does not support videos, so this one would be undefended. Ask about single "
            "frames, or remove the defense."
        )


def join_pictures(pictures: Sequence[PictureTensors], *, as_rows: bool = True) -> dict[str, Tensor]:
    """Combine the pictures of several rows into one batch, or several pictures into one row.

    Args:
        pictures: As returned by `split_pictures`.
        as_rows: Whether they belong to different rows; matters only for the layout "rows".

    Returns:
        Tensors for `generate`; empty if there is no picture.

    Example:
        >>> one = {"pixel_values": torch.zeros(1, 3, 2, 2)}
        >>> join_pictures([one, {}, one])["pixel_values"].shape
        torch.Size([2, 3, 2, 2])
    """
    full = [each for each in pictures if each]
    if not full:
        return {}
    # Only the layout "rows" splits into four-dimensional tiles with their own mask.
    stacked = as_rows and _is_rows(full[0])
    if stacked:
        blank = {name: value[:0] for name, value in full[0].items()}
        parts = [each or blank for each in pictures]
        most = max(len(each["pixel_values"]) for each in parts)
        return {
            name: torch.stack([_grown(each[name], (most, *each[name].shape[1:])) for each in parts])
            for name in full[0]
        }
    joined = {}
    for name in full[0]:
        values = [each[name] for each in full]
        shape = [max(sizes) for sizes in zip(*(v.shape[1:] for v in values), strict=True)]
        joined[name] = torch.cat([_grown(v, (len(v), *shape)) for v in values])
    return joined


def last_picture(vlm: VLM, pictures: PictureTensors) -> Image.Image:
    """The last picture of a row as it was shown to the model.

    Raises:
        InputError: the row has no picture, or its tensors cannot be read as one.
    """
    if not pictures:
        raise InputError("This prompt has no picture. Add one to the message.")
    pixels = pictures["pixel_values"]
    layout = layout_of(pictures)
    if layout == "grid":
        picture = _unpatched(vlm, pixels, pictures["image_grid_thw"][-1])
    elif layout == "placed":
        picture = _put_down(vlm, pixels[-1], pictures[_PLACES][-1])
    elif layout == "sized" and pixels.dim() == 4:  # padded on the right and below
        height, width = pictures["image_sizes"][-1].tolist()
        picture = pixels[-1, :, :height, :width]
    elif layout == "sized":  # the overview comes before its tiles
        picture = pixels[-1, 0]
    elif "pixel_attention_mask" in pictures:  # the overview comes after its tiles
        shown = pictures["pixel_attention_mask"][-1].bool()
        picture = pixels[-1][:, shown.any(dim=1)][:, :, shown.any(dim=0)]
    else:
        picture = pixels[-1]
    if picture.dim() != 3 or len(picture) != 3:
        raise _unknown(vlm)
    return _to_pil(vlm.processor.image_processor, picture)


def picture_tokens(vlm: VLM, tensors: Mapping[str, Tensor]) -> list[int] | None:
    """The number of placeholders of every picture; None if its tensors do not say.

    Args:
        vlm: The model.
        tensors: Those of `TENSORS`, of a batch or of a row.
    """
    processor = vlm.processor
    if "image_grid_thw" in tensors:
        merged = int(processor.image_processor.merge_size) ** 2
        return [int(n) // merged for n in tensors["image_grid_thw"].prod(dim=1).tolist()]
    if _PLACES in tensors:
        pooled = int(processor.image_processor.pooling_kernel_size) ** 2
        real = (tensors[_PLACES] >= 0).all(dim=-1).sum(dim=1)
        return [int(n) // pooled for n in real.tolist()]
    if "image_sizes" not in tensors:
        return None
    sizes = tensors["image_sizes"].tolist()
    merge = getattr(processor, "spatial_merge_size", None)
    if merge is not None:  # Pixtral: sizes after resizing, without line breaks
        step = int(processor.patch_size) * int(merge)
        return [(height // step) * (width // step) for height, width in sizes]
    counts = processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]
    return [int(count) for count in counts]


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    """How picture tensors are laid out; those of a single row of "rows" count as "flat"."""
    if "image_grid_thw" in tensors:
        return "grid"
    if "image_sizes" in tensors:
        return "sized"
    if _PLACES in tensors:
        return "placed"
    return "rows" if tensors["pixel_values"].dim() == 5 else "flat"


def _is_rows(pictures: PictureTensors) -> bool:
    return "pixel_attention_mask" in pictures


def _real_tiles(tensors: Mapping[str, Tensor], row: int) -> PictureTensors:
    """The tiles that are not all zeros; the model treats zero tiles as padding, too."""
    real = tensors["pixel_values"][row].flatten(1).any(dim=1)
    own = {name: value[row][real] for name, value in tensors.items()}
    mask = torch.ones_like(own["pixel_values"][:, 0], dtype=torch.long)
    return {"pixel_attention_mask": mask, **own}


def _dealt(tensors: Mapping[str, Tensor], counts: list[int]) -> list[PictureTensors]:
    parts = {name: torch.split(value, counts) for name, value in tensors.items()}
    return [
        {name: part[row] for name, part in parts.items()} if count else {}
        for row, count in enumerate(counts)
    ]


def _pictures_of_rows(each: Sequence[int], rows: Sequence[int]) -> list[int] | None:
    """The number of pictures in every row, from its placeholders; None if they do not add up."""
    left = list(each)
    counts = []
    for tokens in rows:
        count = 0
        while tokens > 0 and left:
            tokens -= left.pop(0)
            count += 1
        if tokens:
            return None
        counts.append(count)
    return None if left else counts


def _grown(value: Tensor, shape: Sequence[int]) -> Tensor:
    """Padded with zeros at the end of every dimension."""
    amounts = [(0, new - old) for old, new in zip(value.shape, shape, strict=True)]
    return pad(value, [n for pair in reversed(amounts) for n in pair])


def _unpatched(vlm: VLM, pixels: Tensor, grid: Tensor) -> Tensor:
    """3 x H x W from the last `t h w` patches; they hold the same frame more than once."""
    settings = vlm.processor.image_processor
    _, rows, columns = grid.tolist()
    merge, patch = int(settings.merge_size), int(settings.patch_size)
    if pixels.dim() == 4:  # Kimi's: row by row, each patch in three dimensions
        patches = pixels[-rows * columns :].reshape(rows, columns, 3, patch, patch)
        return patches.permute(2, 0, 3, 1, 4).reshape(3, rows * patch, columns * patch)
    frame = pixels[-rows * columns :].reshape(
        rows // merge, columns // merge, merge, merge, 3, -1, patch, patch
    )[:, :, :, :, :, 0]
    return frame.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * patch, columns * patch)


def _put_down(vlm: VLM, patches: Tensor, places: Tensor) -> Tensor:
    """3 x H x W from one picture's patches and the column and row of each; -1 is padding."""
    patch = int(vlm.processor.image_processor.patch_size)
    real = (places >= 0).all(dim=-1)
    columns, rows = places[real].unbind(dim=-1)
    height, width = int(rows.max()) + 1, int(columns.max()) + 1
    picture = patches.new_zeros(height, width, patch, patch, 3)
    picture[rows, columns] = patches[real].reshape(-1, patch, patch, 3)
    return picture.permute(4, 0, 2, 1, 3).reshape(3, height * patch, width * patch)


def _to_pil(settings: Any, picture: Tensor) -> Image.Image:
    """Undo normalization and rescaling."""
    values = picture.detach().float().cpu()
    if settings.do_normalize:
        std, mean = torch.tensor(settings.image_std), torch.tensor(settings.image_mean)
        values = values * std.view(-1, 1, 1) + mean.view(-1, 1, 1)
    if settings.do_rescale:
        values = values / settings.rescale_factor
    pixels = values.round().clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)
    return Image.fromarray(pixels)


def _refuse_unknown(vlm: VLM, inputs: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    words = ("pixel", "image", "aspect", "spatial", "crop", "tile", "patch", "target")
    for name, value in inputs.items():
        picture = any(word in name for word in words) and name not in TENSORS
        if picture and isinstance(value, Tensor):
            raise _unknown(vlm)
    pixels = tensors.get("pixel_values")
    patches = "image_grid_thw" in tensors or _PLACES in tensors
    if pixels is None or (not patches and pixels.dim() < 4):
        raise _unknown(vlm)


def _unknown(vlm: VLM) -> InputError:
    return InputError(
        f"The picture layout of {vlm.name!r} is not known, so none can be read back or added. "
        "Use a defense that leaves pictures alone."
    )
