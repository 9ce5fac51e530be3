"""Detectors beside defenses that change the states they read."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from safesight.cli.main import app
from safesight.hosting.beside import note_on_detectors

NOTE = "probe and sasa judge by scores and thresholds of the model without {}, so they may"


@pytest.mark.parametrize("other", ["npo", "safety_prompt", "rai"])
def test_a_detector_beside_what_changes_its_states_is_noted(other: str) -> None:
    assert NOTE.format(other) in str(note_on_detectors([other, "probe", "sasa"]))
    assert note_on_detectors([other]) is note_on_detectors(["probe", "ecso"]) is None
    assert note_on_detectors([]) is None


def test_it_is_noted_before_vllm_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    from safesight.vllm import command

    started = []
    monkeypatch.setattr(command, "need_engine", lambda: None)
    monkeypatch.setattr(command, "run", lambda serving, say: (say(), started.append(serving)))
    words = ["serve", "--engine", "vllm", "--defense", "safety_prompt,probe"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "probe judges by scores and thresholds of the model without safety_prompt" in said
    assert len(started) == 1
