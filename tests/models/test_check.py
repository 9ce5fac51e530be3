from __future__ import annotations

import json

import pytest
import torch

from safesight.models import VLM
from safesight.models.check import check
from tests import tiny


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_good_model_passes(family):
    report = check(tiny.vlm(family))
    assert report.ok, str(report)
    assert family in str(report)


def test_it_passes_in_bfloat16():
    model, processor = tiny.fresh("qwen3_vl")
    report = check(VLM.wrap(model.bfloat16(), processor))
    assert report.ok, str(report)


def failures(vlm) -> dict[str, str]:
    report = check(vlm)
    assert json.loads(json.dumps(report.to_dict()))["ok"] is report.ok
    return {item.name: item.detail for item in report.checks if not item.ok}


@pytest.fixture
def own() -> VLM:
    return VLM.wrap(*tiny.fresh("llava"))


def test_a_wrong_image_token_is_noticed(own):
    wrong = own.tokenizer.convert_tokens_to_ids("a")
    own.image_mask = lambda inputs: inputs["input_ids"] == wrong
    assert "tokens for pictures" in failures(own)["forward"]


def test_blocks_in_the_wrong_order_are_noticed(own):
    own.layers = torch.nn.ModuleList([*own.layers[1:], own.layers[0]])
    found = failures(own)
    assert "unembedding" in found or "replay" in found


def test_a_wrong_final_norm_is_noticed(own):
    own.final_norm = torch.nn.Identity()
    assert set(failures(own)) == {"unembedding"}


def test_right_padding_that_leaks_is_noticed(own):
    real = own.encode
    calls = []

    def leaky(batch, **kwargs):
        inputs = real(batch, **kwargs)
        if not calls:
            inputs["attention_mask"][:] = 1
        calls.append(1)
        return inputs

    own.encode = leaky
    assert "padding" in failures(own)


def test_blocks_that_never_run_are_noticed(own):
    config = own.model.config.text_config
    own.layers = torch.nn.ModuleList(
        [type(layer)(config, index) for index, layer in enumerate(own.layers)]
    )
    found = failures(own)
    assert "never ran" in found["sites"]
    assert {"image span", "unembedding", "hooks", "replay"} <= set(found)
