"""The torture of artifacts runs, and sees what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.torture import artifacts

from safesight.fitting.artifact import _ConfigFile

pytestmark = pytest.mark.slow


def test_edited_artifacts_are_refused_or_defend_as_before(tmp_path: Path) -> None:
    found = artifacts.run(140, 7, tmp_path)
    assert found["faults"] == []
    assert found["refused"] + found["right"] + found["forged"] == found["tried"] == 140
    assert found["refused"] > 70
    assert set(found["by_defense"].values()) == {10}


def test_an_edit_that_nobody_notices_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ConfigFile, "digest_with", lambda self, card: self.digest)
    found = artifacts.run(280, 7, tmp_path)
    assert any("accepted, and defends otherwise" in fault for fault in found["faults"])
