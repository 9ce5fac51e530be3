"""The risk map shows what the defense does, token by token, and draws only real grids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from safesight.activations import capture, resid_pre
from safesight.analysis.risk_map import _runs, draw, grid_of, risk_map, risk_maps
from safesight.defenses.rai.method import RAI
from safesight.errors import ArtifactError, InputError
from safesight.types import Sample
from tests import tiny
from tests.contracts.defense_helpers import fitted, sample

GRIDS = {
    "llava": (4, 4),
    "qwen2_5_vl": (2, 2),
    "qwen3_vl": (2, 2),
    "gemma3": (2, 2),
    "mistral3": (2, 2),
}
"""Of a picture of 40 x 32 pixels; the others may cut it into tiles."""


def test_stretches() -> None:
    assert _runs([]) == []
    assert _runs([False, True, True, False, True]) == [2, 1]
    assert _runs([True, False, True, False, True, True, True]) == [1, 1, 3]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_grids(family: str) -> None:
    vlm = tiny.vlm(family)
    inputs = vlm.encode([tiny.ask("what is this?", tiny.picture(1))])
    grid = grid_of(vlm, inputs)
    if family in GRIDS:
        assert grid is not None
    if grid is not None:
        assert grid[0] * grid[1] == int(vlm.image_mask(inputs).sum())
    two = vlm.encode([tiny.ask("and these?", tiny.picture(1), tiny.picture(2))])
    assert grid_of(vlm, two) is None


def test_a_wide_picture_has_a_wide_grid() -> None:
    vlm = tiny.vlm("qwen2_5_vl")
    rows, columns = grid_of(vlm, vlm.encode([tiny.ask("?", tiny.picture(1, 64, 32))])) or (0, 0)
    assert columns == 2 * rows > 0


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_map_is_what_the_defense_does(family: str) -> None:
    vlm, artifact = tiny.vlm(family), fitted("rai", family)
    one = sample(1, "harmful", picture=True)
    middle = float(risk_map(vlm, one, artifact).scores.median()) + 1e-5
    seen = risk_map(vlm, one, artifact, tau=middle)
    inputs = vlm.encode([one.messages()])
    mask = vlm.image_mask(inputs)
    site = resid_pre(0)
    with capture(vlm.layers, [site]) as plain:
        vlm.generate(inputs, max_new_tokens=1)
    states: list[torch.Tensor] = []
    with RAI(tau=middle).apply(vlm, artifact):
        norm = vlm.layers[0].input_layernorm.register_forward_pre_hook(
            lambda module, args: states.append(args[0].clone())
        )
        vlm.generate(inputs, max_new_tokens=1)
        norm.remove()
    change = (states[0] - plain[site])[mask].norm(dim=1)
    assert torch.equal(change > 0, seen.moved)
    assert torch.allclose(change / plain[site][mask].norm(dim=1), seen.relative_shift, atol=1e-5)
    assert 0 < int(seen.moved.sum()) < len(seen.moved)
    assert torch.equal(seen.moved, seen.scores > middle)


def test_words_are_those_of_the_largest_cosine() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("rai", "llava")
    one = sample(1, "harmful", picture=True)
    seen = risk_map(vlm, one, artifact)
    vectors = artifact.tensors["prototypes"]
    with capture(vlm.layers, [resid_pre(0)]) as states:
        inputs = vlm.encode([one.messages()])
        vlm.generate(inputs, max_new_tokens=1)
    token = states[resid_pre(0)][vlm.image_mask(inputs)][5]
    cosines = torch.cosine_similarity(vectors, token[None])
    assert seen.words[5] == artifact.fitted["words"][int(cosines.argmax())]
    assert float(seen.scores[5]) == pytest.approx(float(cosines.max()), abs=1e-5)


def test_summary() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("rai", "llava")
    seen = risk_map(vlm, tiny.picture(3), artifact, tau=-1.0)
    summary = seen.summary()
    assert summary["moved"] == summary["visual_tokens"] == 16
    assert max(summary["words"].values()) == pytest.approx(float(seen.scores.max()), abs=1e-4)
    assert risk_map(vlm, tiny.picture(3), artifact, tau=2.0).summary()["words"] == {}


def test_the_drawing_is_hot_where_the_score_is() -> None:
    seen = risk_map(tiny.vlm("llava"), tiny.picture(3), fitted("rai", "llava"), tau=2.0)
    scores = torch.zeros(16)
    scores[6] = 0.5  # second row, third column
    gray = Image.new("RGB", (32, 32), "gray")
    picture = draw(replace(seen, scores=scores, picture=gray))
    assert picture.size == (480, 480)
    pixels = np.asarray(picture).astype(int)
    hot = pixels[..., 0] - pixels[..., 2] > 50
    assert hot[120:240, 240:360].all()
    assert hot.sum() == 120 * 120
    framed = draw(replace(seen, scores=scores, picture=gray, moved=scores > 0))
    assert np.asarray(framed)[121, 241].tolist() == [255, 255, 255]


def test_no_drawing_without_a_grid() -> None:
    seen = risk_map(tiny.vlm("llava"), tiny.picture(3), fitted("rai", "llava"))
    with pytest.raises(InputError, match="tiles"):
        draw(replace(seen, grid=None))


def test_bad_sources() -> None:
    vlm = tiny.vlm("llava")
    with pytest.raises(InputError, match="picture"):
        risk_map(vlm, Sample("1", "?", "benign", ""), fitted("rai", "llava"))
    with pytest.raises(ArtifactError, match="fit rai"):
        risk_map(vlm, tiny.picture(3), fitted("rai", "qwen3_vl"))
    with pytest.raises(ArtifactError, match="sasa"):
        risk_map(vlm, tiny.picture(3), fitted("sasa", "llava"))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_picture_of_a_prompt_has_its_own_map(family: str) -> None:
    """Where the words live, a token's score is that of the same picture alone."""
    vlm, artifact = tiny.vlm(family), fitted("rai", family)
    talk = sample(5, "harmful", picture=True)
    maps = risk_maps(vlm, talk, artifact)
    alone = [risk_map(vlm, picture(), artifact) for picture in talk.pictures]
    assert len(maps) == len(alone) == 2
    for mine, one in zip(maps, alone, strict=True):
        assert torch.allclose(mine.scores, one.scores, atol=1e-5)
        assert (mine.words, mine.grid) == (one.words, one.grid)
        assert mine.grid is None or draw(mine).size
    together = risk_map(vlm, talk, artifact)
    assert torch.equal(together.scores, torch.cat([each.scores for each in maps]))
    assert together.grid is None
