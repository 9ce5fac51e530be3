"""The way from pixels to the model's tensors, on every architecture that has one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safesight.adversary import attacked, pixel_path
from safesight.adversary.pixels import as_picture
from safesight.errors import InputError
from safesight.models import VLM
from safesight.models.picture_tensors import split_pictures
from safesight.types import Sample
from tests import tiny, zoo

FAMILIES = (*tiny.FAMILIES, *zoo.FAMILIES)
TILED = {
    "aria",
    "idefics3",
    "lfm2_vl",
    "llava_next",
    "llava_onevision",
    "minicpmv4_6",
    "molmo2",
    "smolvlm",
}
"""Those that cut every picture into tiles."""


def asked(seed: int = 1) -> Sample:
    return Sample("1", "what is this?", "harmful", "cup", lambda: tiny.picture(seed))


@pytest.fixture(params=[name for name in FAMILIES if name not in TILED])
def vlm(request: pytest.FixtureRequest) -> VLM:
    return tiny.vlm(request.param)


def test_a_changed_picture_reaches_the_model_as_it_was_changed(vlm: VLM) -> None:
    path = pixel_path(vlm, asked())
    rng = torch.Generator().manual_seed(0)
    moved = (path.start * 255 + torch.randint(-8, 9, path.start.shape, generator=rng)) / 255
    moved = moved.clamp(0, 1)
    saved = replace(asked(), image=lambda: as_picture(moved))
    seen = split_pictures(vlm, vlm.encode([saved.messages()]))[0]["pixel_values"]
    written = path.tensors(vlm, moved)["pixel_values"]
    torch.testing.assert_close(written, seen, atol=1e-4, rtol=0)
    assert not torch.equal(written, path.like["pixel_values"])


def test_gradients_reach_every_part_of_the_picture(vlm: VLM) -> None:
    path = pixel_path(vlm, asked())
    pixels = path.start.clone().requires_grad_(True)
    with attacked(vlm, []) as model:
        answer = vlm.tokenizer("ab", add_special_tokens=False)["input_ids"]
        batch = model.batch([asked()], [answer])
        nll = model.scores(batch, [path.tensors(vlm, pixels)]).nll
        (gradient,) = torch.autograd.grad(nll.sum(), pixels)
    assert gradient.isfinite().all()
    # Towers look at whole patches of 8 pixels; all but a border that is cropped must count.
    assert (gradient != 0).float().mean() > 0.9


@pytest.mark.parametrize("family", sorted(TILED))
def test_a_tiled_picture_is_refused(family: str) -> None:
    with pytest.raises(InputError, match="into tiles"):
        pixel_path(tiny.vlm(family), asked())


@pytest.mark.parametrize("pictures", [0, 2])
def test_a_request_without_one_picture_is_refused(pictures: int) -> None:
    sample = Sample("1", "hi", "harmful", "cup")
    if pictures:
        sample = replace(asked(), further_images=(lambda: tiny.picture(2),))
    with pytest.raises(InputError, match="one picture each"):
        pixel_path(tiny.vlm("llava"), sample)
