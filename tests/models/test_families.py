from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from safesight.errors import ModelError
from safesight.models import FAMILIES, VLM
from safesight.models.families import family_of
from tests import tiny, zoo


def test_the_table_loads_without_torch():
    code = "import sys, safesight.models.families; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_tested_families_are_in_the_table():
    assert {*tiny.FAMILIES, *zoo.FAMILIES} <= set(FAMILIES)


@pytest.mark.parametrize("family", [*tiny.FAMILIES, *zoo.FAMILIES])
def test_without_the_table_the_same_parts_are_found(family, monkeypatch):
    model, _ = tiny.build(family)
    known = family_of(model)
    monkeypatch.delitem(FAMILIES, family)
    found = family_of(model)
    for part in ("layers", "embed", "norm", "head"):
        assert found.part(model, part) is known.part(model, part)
    assert found.image_token in ("image_token_id", "image_token_index")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_block_has_a_projection_of_its_heads(family):
    vlm = tiny.vlm(family)
    for layer in range(vlm.num_layers):
        projection = vlm.attention_out(layer)
        assert projection.in_features % vlm.num_heads == 0
        assert projection.out_features == vlm.hidden_size


def test_an_unknown_architecture_is_told_what_is_missing():
    class Odd(nn.Module):
        config = SimpleNamespace(model_type="odd", image_token_id=None)

        def __init__(self):
            super().__init__()
            self.decoder = nn.Linear(2, 2)

        def get_decoder(self):
            return self.decoder

        def get_input_embeddings(self):
            return None

        get_output_embeddings = get_input_embeddings

    with pytest.raises(ModelError, match="decoder and embed and head and norm and image_token"):
        family_of(Odd())


def test_a_part_that_has_moved_is_named():
    model, processor = tiny.fresh("llava")
    del model.lm_head
    with pytest.raises(ModelError, match=r"no head at 'lm_head'"):
        VLM.wrap(model, processor)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_place_in_the_table_exists(family):
    """On tiny models, or on those of full size without memory that default configs make."""
    from transformers import AutoModelForImageTextToText
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if family in (*tiny.FAMILIES, *zoo.FAMILIES):
        model, _ = tiny.build(family)
        config = model.config
    else:
        config = CONFIG_MAPPING[family]()
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
    entry = FAMILIES[family]
    assert entry.part(model, "embed") is model.get_input_embeddings()
    assert entry.part(model, "head") is model.get_output_embeddings()
    blocks = entry.part(model, "layers")
    assert len(blocks) == config.get_text_config().num_hidden_layers
    assert any(name == entry.attention_out for each in blocks for name, _ in each.named_modules())
    for part in ("norm", "vision", "projector"):
        assert isinstance(entry.part(model, part), nn.Module)
    assert isinstance(getattr(config, entry.image_token), int)
