"""Pictures in model inputs: dealt out to rows, joined again bit for bit, and looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from safesight.errors import InputError
from safesight.models.picture_tensors import join_pictures, last_picture, split_pictures
from tests import tiny

KNOWN = (
    *tiny.FAMILIES,
    "gemma4",
    "glm4v",
    "kimi_k25",
    "llama4",
    "smolvlm",
    "cohere2_vision",
    "idefics2",
)
"""Every layout, and every way in which patches are ordered in it."""
UNKNOWN = ("llava_onevision", "molmo2", "lfm2_vl", "minicpmv4_6", "aria")
WHOLE = ("llava", "qwen2_5_vl", "qwen3_vl", "gemma3", "mistral3")
"""Families that show a picture as it is, not in tiles."""


def batch() -> list[object]:
    """Two pictures of different sizes, none, one."""
    return [
        tiny.ask("two", tiny.picture(1, 70, 40), tiny.picture(2)),
        tiny.ask("none"),
        tiny.ask("one", tiny.picture(3, 33, 64)),
    ]


@pytest.mark.parametrize("family", KNOWN)
def test_split_and_joined_is_the_same(family: str) -> None:
    inputs = tiny.vlm(family).encode(batch())
    rows = split_pictures(tiny.vlm(family), inputs)
    assert [bool(row) for row in rows] == [True, False, True]
    for name, tensor in join_pictures(rows).items():
        assert torch.equal(tensor, inputs[name]), name


@pytest.mark.parametrize("family", KNOWN)
def test_rows_are_as_if_encoded_alone(family: str) -> None:
    vlm = tiny.vlm(family)
    rows = split_pictures(vlm, vlm.encode(batch()))
    alone = split_pictures(vlm, vlm.encode(batch()[2:]))[0]
    for name, tensor in join_pictures([alone, rows[0]], as_rows=False).items():
        joined = join_pictures([rows[2], rows[0]], as_rows=False)[name]
        assert torch.equal(tensor, joined), name


@pytest.mark.parametrize("family", KNOWN)
def test_a_picture_joined_to_a_row_is_as_if_encoded_there(family: str) -> None:
    vlm = tiny.vlm(family)
    pair = tiny.picture(1, 70, 40), tiny.picture(2)
    together = vlm.encode([tiny.ask("x", *pair)])
    one, two = (split_pictures(vlm, vlm.encode([tiny.ask("x", p)]))[0] for p in pair)
    joined = join_pictures([join_pictures([one, two], as_rows=False)])
    assert joined.keys() <= together.keys()
    for name, tensor in joined.items():
        assert torch.equal(tensor, together[name]), name


@pytest.mark.parametrize("family", WHOLE)
def test_what_the_model_was_shown_is_shown_again(family: str) -> None:
    vlm = tiny.vlm(family)
    rows = split_pictures(vlm, vlm.encode(batch()))
    again = split_pictures(vlm, vlm.encode([tiny.ask("x", last_picture(vlm, rows[2]))]))[0]
    height, width = (
        min(a, b)
        for a, b in zip(
            again["pixel_values"].shape[-2:], rows[2]["pixel_values"].shape[-2:], strict=True
        )
    )
    one, two = (r["pixel_values"][..., :height, :width] for r in (again, rows[2]))
    assert torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("family", KNOWN)
def test_the_picture_looks_like_itself(family: str) -> None:
    """Halves of two colours, whole or in tiles, are still where they were."""
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, :32] = (200, 30, 60)
    halves[:, 32:] = (20, 180, 90)
    vlm = tiny.vlm(family)
    inputs = vlm.encode([tiny.ask("x", Image.fromarray(halves))])
    seen = np.asarray(last_picture(vlm, split_pictures(vlm, inputs)[0])).astype(int)
    width = seen.shape[1]
    assert abs(seen[:, : width // 4].mean(axis=(0, 1)) - (200, 30, 60)).max() < 8
    assert abs(seen[:, -(width // 4) :].mean(axis=(0, 1)) - (20, 180, 90)).max() < 8


def test_a_video_alone_is_not_a_prompt_without_a_picture() -> None:
    vlm = tiny.vlm("qwen3_vl")
    inputs = {**vlm.encode([tiny.ask("x")]), "pixel_values_videos": torch.zeros(1, 4)}
    with pytest.raises(InputError, match="videos, so this one would be undefended"):
        split_pictures(vlm, inputs)


@pytest.mark.parametrize("family", UNKNOWN)
def test_families_with_another_layout_are_refused(family: str) -> None:
    vlm = tiny.vlm(family)
    for rows in (batch(), batch()[2:]):
        with pytest.raises(InputError, match="not known"):
            split_pictures(vlm, vlm.encode(rows))


def test_unknown_layouts_are_refused() -> None:
    vlm = tiny.vlm("llava")
    inputs = dict(vlm.encode([tiny.ask("x", tiny.picture())]))
    with pytest.raises(InputError, match="not known"):
        split_pictures(vlm, {**inputs, "aspect_ratio_ids": torch.zeros(1, 1)})
    with pytest.raises(InputError, match="no picture"):
        last_picture(vlm, {})
    uneven = {**inputs, "pixel_values": inputs["pixel_values"].repeat(3, 1, 1, 1)}
    several = vlm.encode([tiny.ask("x", tiny.picture()), tiny.ask("y", tiny.picture())])
    uneven = {**several, "pixel_values": uneven["pixel_values"]}
    with pytest.raises(InputError, match="not known"):
        split_pictures(vlm, uneven)
