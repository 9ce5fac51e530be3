"""The pictures of one prompt, one by one: their tensors, and where their tokens stand.

Where the tensors do not say which tiles make up a picture, its tokens do: most processors write
a marker before each picture, or a tag before its last tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from safesight.errors import InputError
from safesight.generation.picture_spans import opening_marker, placeholder_runs
from safesight.models.picture_tensors import PictureTensors, picture_tokens

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["ShownPicture", "shown_pictures"]

_WHOLE_TAG = "<global-img>"
"""What Idefics 3 and SmolVLM write before the overview, which follows the tiles."""
_TILES_OF_IDEFICS2 = 5


@dataclass(frozen=True)
class ShownPicture:
    """One picture of a prompt."""

    tensors: PictureTensors
    """Its own part of the row's tensors."""
    tokens: Sequence[int]
    """The indices of its placeholders in the row."""


def shown_pictures(vlm: VLM, row: Sequence[int], tensors: PictureTensors) -> list[ShownPicture]:
    """The pictures of a row, in order.

    Args:
        vlm: The model.
        row: The tokens of the prompt.
        tensors: Its pictures, as returned by `split_pictures`.

    Raises:
        InputError: they cannot be distinguished.
    """
    if not tensors:
        return []
    places = [index for index, token in enumerate(row) if token == vlm.image_token_id]
    entries, counts = _counted(vlm, row, tensors)
    total = {name: len(value) for name, value in tensors.items()}
    if sum(counts) != len(places) or sum(entries) != total["pixel_values"]:
        raise _inseparable(vlm)
    found = []
    for index, (stop, end) in enumerate(zip(accumulate(counts), accumulate(entries), strict=True)):
        own = {
            name: value[end - entries[index] : end]
            if total[name] == total["pixel_values"]
            else value[index : index + 1]
            for name, value in tensors.items()
        }
        found.append(ShownPicture(own, places[stop - counts[index] : stop]))
    return found


def _counted(
    vlm: VLM, row: Sequence[int], tensors: PictureTensors
) -> tuple[Sequence[int], Sequence[int]]:
    """The numbers of entries in `pixel_values` and of placeholders of every picture."""
    counts = picture_tokens(vlm, tensors)
    if counts is None:
        return _by_markers(vlm, row, len(tensors["pixel_values"]))
    grids = tensors.get("image_grid_thw")
    if grids is None:
        return [1] * len(counts), counts
    return [int(patches) for patches in grids.prod(dim=1)], counts


def _by_markers(vlm: VLM, row: Sequence[int], entries: int) -> tuple[list[int], list[int]]:
    """The numbers of tiles and of placeholders of every picture."""
    runs = placeholder_runs(vlm, row)
    lengths = [stop - start for start, stop in runs]
    whole = vlm.tokenizer.convert_tokens_to_ids(_WHOLE_TAG)
    if whole is not None and whole != vlm.tokenizer.unk_token_id:
        ends = [index for index, (start, _) in enumerate(runs) if row[start - 1] == whole]
        groups = _cut(lengths, [index + 1 for index in ends])
    elif vlm.family.name == "idefics2":
        each = _TILES_OF_IDEFICS2 if vlm.processor.image_processor.do_image_splitting else 1
        return [each] * (entries // each), [sum(lengths) * each // entries] * (entries // each)
    elif (marker := opening_marker(vlm)) is None:
        return [1] * entries, [sum(lengths) // entries] * entries
    else:
        behind = [0, *(stop for _, stop in runs)]
        first = [i for i, (start, _) in enumerate(runs) if marker in row[behind[i] : start]]
        groups = _cut(lengths, [*first[1:], len(runs)])
    counts = [sum(group) for group in groups]
    return [count * entries // sum(lengths) for count in counts], counts


def _cut(lengths: Sequence[int], ends: Sequence[int]) -> list[Sequence[int]]:
    starts = [0, *ends[:-1]]
    return [lengths[start:end] for start, end in zip(starts, ends, strict=True)]


def _inseparable(vlm: VLM) -> InputError:
    return InputError(
        f"The pictures of a prompt for {vlm.name!r} cannot be distinguished. Ask about one at a "
        "time, or use a defense that leaves pictures alone."
    )
