"""How long the prompts of a batch are, and how large their pictures, from tensors that are there.

Only shapes, masks and the small tensors that hold sizes are read, never a pixel. The same function
measures the prompts that set a threshold and those of every generation, so the two are alike even
where a processor cuts pictures into tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import Tensor

from safesight.fitting.ranges import CalibrationRange, Spread
from safesight.models.asking import encode_asked

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["PromptSizes", "calibration_range", "prompt_sizes"]


@dataclass(frozen=True)
class PromptSizes:
    """The sizes of one batch."""

    tokens: Sequence[int]
    """Tokens of each row, without the placeholders of pictures."""
    pictures: Sequence[int]
    """Some rows' pictures. Of one row exact; of several, no more than the most and no fewer than
    the fewest, since the tensors need not say whose picture is whose."""
    pixels: Sequence[int]
    """Pixels of each picture; empty if the tensors do not say."""


def prompt_sizes(vlm: VLM, inputs: Mapping[str, Any]) -> PromptSizes | None:
    """The sizes of a batch; None if it has no tokens, only embeddings.

    Args:
        vlm: The model.
        inputs: What its `generate` is called with.
    """
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        return None
    shown = vlm.image_mask(inputs).sum(dim=1)
    lengths = shown.new_full(shown.shape, ids.shape[1]) if mask is None else mask.sum(dim=1)
    tokens = (lengths - shown).tolist()
    with_pictures = [count > 0 for count in shown.tolist()]
    if not any(with_pictures):
        return PromptSizes(tokens, [0], [])
    none = [] if all(with_pictures) else [0]
    return PromptSizes(
        tokens, [*none, *_pictures(inputs, sum(with_pictures))], _pixels(vlm, inputs)
    )


def _pictures(inputs: Mapping[str, Any], rows: int) -> list[int]:
    """Bounds on the pictures of `rows` rows, all of which have some."""
    for name in ("image_grid_thw", "image_sizes", "image_position_ids", "pixel_values"):
        found = inputs.get(name)
        if isinstance(found, Tensor):
            if name == "pixel_values" and found.dim() == 5:  # one entry per row, padded
                return [found.shape[1]]
            return sorted({len(found) // rows, -(-len(found) // rows)})
    return []


def _pixels(vlm: VLM, inputs: Mapping[str, Any]) -> list[int]:
    grid, sizes, pixels = (
        inputs.get(name) for name in ("image_grid_thw", "image_sizes", "pixel_values")
    )
    if _is_table(grid, 3):
        patch = getattr(getattr(vlm.processor, "image_processor", None), "patch_size", None)
        if not isinstance(patch, int):
            return []
        return [int(rows * columns) * patch**2 for _, rows, columns in grid.tolist()]
    if _is_table(sizes, 2):
        return [int(height * width) for height, width in sizes.tolist()]
    if isinstance(pixels, Tensor) and pixels.dim() in (4, 5) and "image_position_ids" not in inputs:
        return [pixels.shape[-2] * pixels.shape[-1]]
    return []


def _is_table(found: Any, columns: int) -> TypeGuard[Tensor]:
    """Whether it is a tensor with so many numbers for each picture."""
    return isinstance(found, Tensor) and found.dim() == 2 and found.shape[1] == columns


def calibration_range(
    vlm: VLM, samples: Sequence[Sample], scores: Tensor
) -> CalibrationRange | None:
    """The range of the prompts that set a threshold; None if there are none.

    Args:
        vlm: The model.
        samples: The prompts.
        scores: The detector's, one per prompt.
    """
    # One by one: a batch need not say which row has how many pictures.
    found = [prompt_sizes(vlm, dict(encode_asked(vlm, [sample]))) for sample in samples]
    sizes = [each for each in found if each is not None]
    if not sizes:
        return None
    pixels = [size for each in sizes for size in each.pixels]
    return CalibrationRange(
        n=len(sizes),
        tokens=Spread.of([size for each in sizes for size in each.tokens]),
        pictures=Spread.of([size for each in sizes for size in each.pictures]),
        pixels=Spread.of(pixels) if pixels else None,
        scores=Spread.of(scores.tolist()),
    )
