"""Artifacts that travel with the package are found by the model they belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from safesight.defenses import protect, protection
from safesight.errors import ArtifactError
from safesight.fitting import bundled as module
from safesight.fitting.bundled import bundled
from tests import tiny
from tests.contracts.defense_helpers import fitted


def test_found_among_models(tmp_path: Path) -> None:
    llava, qwen = fitted("sasa", "llava"), fitted("sasa", "qwen3_vl")
    llava.save(tmp_path / "one" / "sasa")
    qwen.save(tmp_path / "two" / "sasa")
    (tmp_path / "README").write_text("")
    assert bundled("sasa", tiny.vlm("qwen3_vl"), tmp_path).hash == qwen.hash
    assert bundled("sasa", tiny.vlm("llava"), tmp_path).hash == llava.hash


@pytest.mark.parametrize("there", [True, False])
def test_none_for_this_model(there: bool, tmp_path: Path) -> None:
    if there:
        fitted("sasa", "llava").save(tmp_path / "one" / "sasa")
    with pytest.raises(
        ArtifactError,
        match="safesight fit sasa --model tiny-qwen3_vl --dtype float32 --data FILE -o",
    ):
        bundled("sasa", tiny.vlm("qwen3_vl"), tmp_path)


def test_protect_takes_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny.fresh("llava")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    with pytest.raises(ArtifactError, match="no bundled artifact"):
        protect(model, processor, "sasa")
    assert protection(model) is None
    fitted("sasa", "llava").save(tmp_path / "one" / "sasa")
    protect(model, processor, "sasa")
    assert protection(model).names == ["sasa"]
