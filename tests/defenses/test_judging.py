"""The judge of a fit says what it cannot tell about the model."""

import logging
from typing import Any

import pytest

from safesight.benchmarks import load_benchmark
from safesight.defenses import load_defense
from safesight.defenses.shared.judging import judge_for_fit
from safesight.defenses.shared.refusals_seen import refusals_seen
from safesight.models import VLM
from safesight.types import Sample
from tests import tiny
from tests.contracts.defense_helpers import fit_data

SAMPLES = [Sample(str(n), "how?", "harmful", "bomb") for n in range(3)]


def test_a_judge_outside_its_scope_is_warned_about_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = tiny.vlm("llava")
    with caplog.at_level(logging.WARNING, "safesight"):
        assert judge_for_fit("exact", vlm, SAMPLES)("i cannot help.", SAMPLES[0]) == "refused"
    assert caplog.text.count("not those of tiny-llava") == 1
    assert "Choose rules: --set judge=rules." in caplog.text
    caplog.clear()
    monkeypatch.setattr(vlm, "name", "testbed")
    judge_for_fit("exact", vlm, SAMPLES)
    assert not caplog.records
    assert judge_for_fit(None, vlm, SAMPLES).name == "exact"
    monkeypatch.setattr(vlm, "name", "org/model")
    assert judge_for_fit(None, vlm, SAMPLES).name == "rules"


NEVER = "No refusal was seen in the answers to"


@pytest.mark.parametrize(
    ("name", "settings", "found"),
    [
        ("refusal_direction", {}, "the refusal direction"),
        ("hidden_detect", {"tokens": "auto"}, "the model's own refusal words"),
        ("tool_vector", {"judge": "keywords"}, "block "),
        ("rai", {"words": ("a",), "ratio": "auto", "judge": "keywords"}, "the chosen setting"),
    ],
)
def test_a_fit_on_a_model_that_never_refuses_says_so(
    name: str, settings: dict[str, Any], found: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "safesight"):
        artifact = load_defense(name, **settings).fit(tiny.vlm("llava"), fit_data(), progress=False)
    assert caplog.text.count(NEVER) == 1
    assert f"so {found}" in caplog.text
    assert "--set judge" not in caplog.text
    if name != "rai":  # its candidates hold the counts
        seen = artifact.card["refusals_seen"]
        assert seen is False or (seen["asked"] > 0 and seen["refused"] == 0)


def test_a_model_that_refuses_is_not_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    harmful = load_benchmark("text_harm")(40, split="fit")
    with caplog.at_level(logging.WARNING, "safesight"):
        seen = refusals_seen(VLM.load("testbed"), harmful, "it")
    assert seen["asked"] == 16
    assert seen["refused"] > 8
    assert not caplog.records
