"""Prompts unlike those that set a threshold: measured from tensors, said once, verdicts kept."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch

from safesight.defenses import Artifact
from safesight.fitting.ranges import KEY, CalibrationRange
from safesight.generation import outside
from safesight.generation.outside import noted
from safesight.generation.prompt_sizes import prompt_sizes
from tests import tiny
from tests.contracts.defense_helpers import (
    DETECTORS,
    answers,
    build,
    fit_data,
    fitted,
    last_decision,
)

LONG = tiny.ask("i bake a cake " * 40)
PICTURES = tiny.ask("i bake", *(tiny.picture(each) for each in range(4)))


@pytest.fixture(autouse=True)
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which nothing has been said."""
    monkeypatch.setattr(outside, "_logged", fresh := outside._Listener())
    monkeypatch.setattr(outside, "_listeners", [fresh])


def plain(artifact: Artifact) -> Artifact:
    """As fitted by an older version."""
    return replace(artifact, card={k: v for k, v in artifact.card.items() if k != KEY})


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_sizes_are_those_of_the_prompts(family: str) -> None:
    vlm = tiny.vlm(family)
    none, one, two = (
        prompt_sizes(vlm, vlm.encode([tiny.ask("hello", *(tiny.picture(i) for i in range(n)))]))
        for n in range(3)
    )
    assert none is not None
    assert one is not None
    assert two is not None
    assert none.pictures == [0]
    assert not none.pixels
    assert max(one.pictures) == min(one.pictures) >= 1
    assert list(two.pictures) == [2 * count for count in one.pictures]
    assert set(one.pixels) == set(two.pixels)
    # Only marks around the placeholders are left of a picture.
    assert none.tokens[0] <= one.tokens[0] <= none.tokens[0] + 40
    longer = prompt_sizes(vlm, vlm.encode([tiny.ask("hello"), tiny.ask("hello hello")]))
    assert longer is not None
    assert longer.tokens[1] == longer.tokens[0] + len(" hello")
    assert prompt_sizes(vlm, {"inputs_embeds": torch.zeros(1, 2, 3)}) is None


def test_of_a_mixed_batch_the_pictures_have_bounds() -> None:
    vlm = tiny.vlm("llava")
    batch = [tiny.ask("a"), tiny.ask("b", tiny.picture(0)), PICTURES]
    found = prompt_sizes(vlm, vlm.encode(batch))
    assert found is not None
    assert min(found.pictures) == 0
    assert max(found.pictures) <= 4
    assert found.pixels == [tiny.SIDE**2]


@pytest.mark.parametrize("name", ["image_grid_thw", "image_sizes"])
def test_tables_of_another_layout_are_passed_by(name: str) -> None:
    """A size that cannot be read must not keep an answer back."""
    vlm = tiny.vlm("llava")
    inputs = vlm.encode([tiny.ask("b", tiny.picture(0))])
    found = prompt_sizes(vlm, {**inputs, name: torch.ones(1, 7)})
    assert found is not None
    assert found.pictures == [1]
    assert found.pixels == [tiny.SIDE**2]


@pytest.mark.parametrize("name", DETECTORS)
def test_a_fit_remembers_what_set_its_threshold(name: str) -> None:
    found = CalibrationRange.of(fitted(name, "llava").card)
    benign = fit_data().calibration_benign
    assert found is not None
    assert found.n == len(benign)
    assert found.pictures.low == 0
    assert found.pictures.high == max(len(sample.pictures) for sample in benign)
    assert found.tokens.low < found.tokens.high
    assert found.pixels is not None
    assert found.scores.low < found.scores.high


@pytest.mark.parametrize("name", DETECTORS)
def test_each_kind_is_said_once_by_name_and_no_verdict_changes(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    vlm, defense, artifact = tiny.vlm("llava"), build(name), fitted(name, "llava")
    usual = [sample.messages() for sample in fit_data().calibration_benign[:2]]
    found: list[Any] = []
    with caplog.at_level(logging.WARNING, "safesight"):
        for each in (plain(artifact), artifact):
            with defense.apply(vlm, each):
                replies = [answers(vlm, batch) for batch in (usual, [LONG], [PICTURES], [LONG])]
                found.append((replies, last_decision(vlm).scores.tolist()))
    assert found[0] == found[1]
    said = [record.getMessage() for record in caplog.records if record.name == "safesight"]
    assert [line for line in said if "tokens" in line and name in line and "560" not in line]
    assert len([line for line in said if " tokens, but one here has " in line]) == 1
    assert len([line for line in said if " pictures, but one here has 4." in line]) == 1
    assert all(line.startswith(f"{name} ") for line in said)


def test_prompts_like_those_of_the_calibration_are_not_remarked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("probe", "llava")
    with caplog.at_level(logging.WARNING, "safesight"), build("probe").apply(vlm, artifact):
        for sample in fit_data().calibration_benign:
            answers(vlm, [sample.messages()])
    assert not caplog.records


def test_an_evaluation_notes_what_was_logged_before() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("probe", "llava")
    with build("probe").apply(vlm, artifact):
        answers(vlm, [LONG])
        with noted() as sentences:
            answers(vlm, [LONG])
            answers(vlm, [LONG])
        answers(vlm, [PICTURES])
    (said,) = [line for line in sentences["probe"] if " tokens, " in line]
    assert said.startswith("probe was calibrated on prompts of ")
    assert not [line for line in sentences["probe"] if "pictures" in line]


def test_a_score_far_below_is_said_and_one_above_is_not(caplog: pytest.LogCaptureFixture) -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("probe", "llava")
    usual = fit_data().calibration_benign[0].messages()
    whole = CalibrationRange.of(artifact.card)
    assert whole is not None
    with caplog.at_level(logging.WARNING, "safesight"):
        for shift in (-1000.0, 1000.0):
            moved = whole.scores.model_copy(
                update={part: getattr(whole.scores, part) + shift for part in ("low", "high")}
            )
            card = {**artifact.card, KEY: whole.model_copy(update={"scores": moved}).model_dump()}
            with build("probe").apply(vlm, replace(artifact, card=card)):
                answers(vlm, [usual])
    (said,) = caplog.records
    assert "made to score low" in said.getMessage()
