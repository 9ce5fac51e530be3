"""Checkpoints have the names that vLLM knows, and stay the same model for transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from safesight.models import VLM
from safesight.models.built import bundled_folder
from safesight.models.saving import rename_tensors, save_checkpoint
from safesight.testbed import WEIGHTS
from tests import tiny


def names(folder: Path) -> Iterator[str]:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            yield from tensors.keys()


@pytest.mark.parametrize("family", ["llava", "llava_next", "llava_onevision", "gemma3"])
def test_a_tower_of_clip_or_siglip_is_named_as_vllm_wants_it(family: str, tmp_path: Path) -> None:
    model, processor = tiny.build(family)
    save_checkpoint(model, tmp_path, processor)
    found = [name for name in names(tmp_path) if "vision_tower." in name]
    assert found
    assert all(name.count("vision_tower.vision_model.") == 1 for name in found)
    loaded = VLM.load(str(tmp_path))
    assert loaded.weights_hash == VLM.wrap(model, processor).weights_hash
    save_checkpoint(loaded.model, tmp_path)
    assert [name for name in names(tmp_path) if "vision_tower." in name] == found


@pytest.mark.parametrize("family", ["internvl", "mistral3"])
def test_other_towers_keep_their_names(family: str, tmp_path: Path) -> None:
    model, processor = tiny.build(family)
    model.save_pretrained(tmp_path / "plain")
    save_checkpoint(model, tmp_path / "ours", processor)
    assert list(names(tmp_path / "ours")) == list(names(tmp_path / "plain"))


def test_a_checkpoint_of_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny.fresh("llava")
    plain = model.save_pretrained
    monkeypatch.setattr(model, "save_pretrained", lambda to: plain(to, max_shard_size="50KB"))
    save_checkpoint(model, tmp_path, processor)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 1
    assert sorted(index) == sorted(names(tmp_path))
    assert any(name.startswith("vision_tower.vision_model.") for name in index)
    assert VLM.load(str(tmp_path)).weights_hash == VLM.wrap(model, processor).weights_hash


def test_renaming_leaves_the_tensors_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    shutil.copy(WEIGHTS / "model.safetensors", file)
    rename_tensors(file, lambda name: f"other.{name}")
    with safe_open(WEIGHTS / "model.safetensors", "pt") as old, safe_open(file, "pt") as new:
        assert new.metadata() == old.metadata() == {"format": "pt"}
        assert [f"other.{name}" for name in old.keys()] == list(new.keys())  # noqa: SIM118
        for name in old.keys():  # noqa: SIM118
            assert torch.equal(old.get_tensor(name), new.get_tensor(f"other.{name}"))


def test_the_bundled_model_has_them() -> None:
    found = list(names(Path(bundled_folder("testbed"))))
    assert sum(name.startswith("vision_tower.vision_model.") for name in found) > 10
    assert not [
        name for name in found if name.startswith("vision_tower.") and ".vision_model." not in name
    ]
