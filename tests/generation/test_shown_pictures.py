"""The pictures of a prompt, one by one, are those that went in, wherever they stand."""

from __future__ import annotations

import pytest
import torch

from safesight.errors import InputError
from safesight.generation.shown_pictures import shown_pictures
from safesight.models.picture_tensors import join_pictures, split_pictures
from tests import tiny
from tests.generation.test_follow_ups import SAID, turn
from tests.models.test_picture_tensors import KNOWN

PICTURES = [tiny.picture(1, 70, 40), tiny.picture(2), tiny.picture(3, 33, 64), tiny.picture(4)]
ONE, TWO, THREE, FOUR = PICTURES
PROMPT = [turn("user", ONE, "look:", TWO), SAID, turn("user", THREE, FOUR, "what now?")]


@pytest.mark.parametrize("family", KNOWN)
def test_every_picture_is_as_if_encoded_alone(family: str) -> None:
    vlm = tiny.vlm(family)
    inputs = vlm.encode([PROMPT])
    row = inputs["input_ids"][0].tolist()
    found = shown_pictures(vlm, row, split_pictures(vlm, inputs)[0])
    assert len(found) == len(PICTURES)
    for one, picture in zip(found, PICTURES, strict=True):
        own = vlm.encode([tiny.ask("x", picture)])
        assert len(one.tokens) == int(vlm.image_mask(own).sum())
        alone = split_pictures(vlm, own)[0]
        # Beside larger pictures some are padded.
        padded = join_pictures([one.tensors, alone], as_rows=False)
        for name, value in padded.items():
            half = len(value) // 2
            assert torch.equal(value[:half], value[half:]), name
    assert [place for one in found for place in one.tokens] == [
        index for index, token in enumerate(row) if token == vlm.image_token_id
    ]


def test_what_does_not_add_up_is_refused() -> None:
    vlm = tiny.vlm("internvl")
    inputs = vlm.encode([PROMPT])
    tensors = split_pictures(vlm, inputs)[0]
    short = {name: value[:-1] for name, value in tensors.items()}
    with pytest.raises(InputError, match="cannot be distinguished"):
        shown_pictures(vlm, inputs["input_ids"][0].tolist(), short)
