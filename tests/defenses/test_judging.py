"""The judge of a fit says what it cannot tell about the model."""

import logging

import pytest

from safesight.defenses.shared.judging import judge_for_fit
from safesight.types import Sample
from tests import tiny

SAMPLES = [Sample(str(n), "how?", "harmful", "bomb") for n in range(3)]


def test_a_judge_outside_its_scope_is_warned_about_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = tiny.vlm("llava")
    with caplog.at_level(logging.WARNING, "safesight"):
        assert judge_for_fit("exact", vlm, SAMPLES)("i cannot help.", SAMPLES[0]) == "refused"
    assert caplog.text.count("not those of tiny-llava") == 1
    caplog.clear()
    monkeypatch.setattr(vlm, "name", "testbed")
    judge_for_fit("exact", vlm, SAMPLES)
    assert not caplog.records
