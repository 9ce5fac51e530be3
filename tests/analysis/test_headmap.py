"""Each head is silenced alone; a run that was stopped goes on; files of others are refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from safesight.activations import leading_angle, silence_head
from safesight.analysis.headmap import head_count, head_map
from safesight.analysis.states import states_before_answer
from safesight.errors import InputError, ModelError, StorageError
from safesight.models import VLM
from safesight.types import Sample
from tests import tiny
from tests.contracts.defense_helpers import fingerprint

LAYER, HEAD = 2, 1


def _samples(kind: str, n: int = 3) -> list[Sample]:
    return [
        Sample(f"{kind}{i}", f"{kind} {'again ' * i}?", "harmful", "x", image=_picture(i))
        for i in range(n)
    ]


def _picture(index: int) -> partial[object] | None:
    return partial(tiny.picture, index) if index % 2 else None


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_silencing_a_head_is_the_model_without_its_weights(family: str) -> None:
    vlm, samples = tiny.vlm(family), _samples("what")
    before = states_before_answer(vlm, samples)
    projection = vlm.attention_out(LAYER)
    assert projection is not None
    with silence_head(projection, HEAD, vlm.num_heads):
        after = states_before_answer(vlm, samples)
    assert torch.equal(after[:, :LAYER], before[:, :LAYER])
    assert not torch.allclose(after[:, LAYER], before[:, LAYER], atol=1e-3)
    without = VLM.wrap(*copy.deepcopy(tiny.build(family)))
    columns = without.attention_out(LAYER)
    assert columns is not None
    width = columns.in_features // vlm.num_heads
    columns.weight.data[:, HEAD * width : (HEAD + 1) * width] = 0
    torch.testing.assert_close(after, states_before_answer(without, samples), atol=1e-4, rtol=1e-4)


def test_the_map_holds_the_angles_of_both_sets() -> None:
    vlm = tiny.vlm("llava")
    safety, utility = _samples("harm"), _samples("see")
    states_before_answer(
        vlm, utility
    )  # transformers installs hooks of its own at the first picture
    print_ = fingerprint(vlm.model)
    steps: list[int] = []
    found = head_map(vlm, safety, utility, step=lambda: steps.append(1))
    assert fingerprint(vlm.model) == print_
    assert len(steps) == head_count(vlm) == vlm.num_layers * vlm.num_heads
    assert [len(row) for row in found.safety] == [vlm.num_heads] * vlm.num_layers
    projection = vlm.attention_out(LAYER)
    assert projection is not None
    before = states_before_answer(vlm, utility)[:, -1]
    with silence_head(projection, HEAD, vlm.num_heads):
        after = states_before_answer(vlm, utility)[:, -1]
    assert found.utility[LAYER][HEAD] == pytest.approx(leading_angle(before, after))
    centred = leading_angle(before, after, centred=True)
    assert found.utility_centred[LAYER][HEAD] == pytest.approx(centred)
    assert found.difference() != found.difference(centred=True)


def test_the_same_set_twice_has_no_difference() -> None:
    samples = _samples("harm")
    found = head_map(tiny.vlm("llava"), samples, samples)
    assert {value for row in found.difference() for value in row} == {0.0}


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize("cut", [0, 7])
def test_a_stopped_run_goes_on_where_it_was(cut: int, tmp_path: Path) -> None:
    """Also from a file whose last line was cut in the middle."""
    vlm, file = tiny.vlm("llava"), tmp_path / "deep" / "heads.csv"
    safety, utility = _samples("harm"), _samples("see")
    whole = head_map(vlm, safety, utility)
    count = 0

    def stop() -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        head_map(vlm, safety, utility, file=file, step=stop)
    text = file.read_text()
    assert len(text.splitlines()) == 2 + 3
    file.write_text(text[: len(text) - cut])
    assert head_map(vlm, safety, utility, file=file) == whole
    assert len(file.read_text().splitlines()) == 2 + head_count(vlm)
    # Everything is there now: the model is not asked again.
    vlm_without = copy.copy(vlm)
    vlm_without.encode = None  # type: ignore[method-assign, assignment]
    assert head_map(vlm_without, safety, utility, file=file) == whole


def test_a_file_of_other_prompts_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    vlm, file = tiny.vlm("llava"), tmp_path / "heads.csv"
    safety, utility = _samples("harm"), _samples("see")
    head_map(vlm, safety, utility, file=file)
    with pytest.raises(StorageError, match="other prompts"):
        head_map(vlm, _samples("else"), utility, file=file)
    seen = [replace(each, image=partial(Image.new, "RGB", (8, 8))) for each in safety]
    with pytest.raises(StorageError, match="other prompts"):
        head_map(vlm, seen, utility, file=file)
    file.write_text(file.read_text().replace("0,0,0.", "0,x,0.", 1))
    with pytest.raises(StorageError, match="damaged"):
        head_map(vlm, safety, utility, file=file)
    file.write_bytes(b"\xff\xfe")
    for unreadable in (file, tmp_path):
        with pytest.raises(StorageError, match="cannot be read"):
            head_map(vlm, safety, utility, file=unreadable)
    (tmp_path / "place").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        head_map(vlm, safety, utility, file=tmp_path / "place" / "heads.csv")


@pytest.mark.parametrize("sizes", [(1, 1), (3, 2)])
def test_sets_that_cannot_be_compared(sizes: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="same size"):
        head_map(tiny.vlm("llava"), _samples("a", sizes[0]), _samples("b", sizes[1]))


def test_an_architecture_whose_heads_cannot_be_told_apart() -> None:
    vlm = VLM.wrap(*tiny.fresh("llava"))
    for block in vlm.layers:
        block.self_attn.out = block.self_attn.o_proj
        del block.self_attn.o_proj
    with pytest.raises(ModelError, match=r"self_attn\.o_proj"):
        vlm.attention_out(0)


def test_a_block_without_attention_has_no_heads() -> None:
    vlm = VLM.wrap(*tiny.fresh("llava"))
    vlm.layers[1].conv = vlm.layers[1].self_attn
    del vlm.layers[1].self_attn
    assert vlm.attention_out(1) is None
    assert head_count(vlm) == (vlm.num_layers - 1) * vlm.num_heads
