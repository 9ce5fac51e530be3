"""Thresholds set on somebody's benign rows: the rate, what checks it, what the card remembers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from safesight.data import Data
from safesight.defenses import Artifact, Decision, FitData, Prefill, load_defense
from safesight.errors import InputError
from safesight.fitting.ranges import CalibrationRange
from safesight.fitting.thresholds import stored_threshold
from safesight.types import Label, Sample, group_of
from safesight.workflows.calibrating import (
    CalibrationPlan,
    benign_rows,
    calibrate,
    check_detector,
    chosen_again,
    halves,
)
from tests import tiny
from tests.contracts.defense_helpers import (
    CLASSES,
    DETECTORS,
    answers,
    build,
    fitted,
    last_decision,
)

PLAN = CalibrationPlan(fpr=0.1)
VLM = tiny.vlm("llava")


def rows(n: int = 60, label: Label = "benign", size: int = 3) -> list[Sample]:
    """Rows of several lengths, a few to a group."""
    return [
        Sample(
            f"{label}-{i}",
            f"{'how to bomb' if label == 'harmful' else 'i bake'} {'x' * (i % 7)} {i}?",
            label,
            "",
            facts={"group": f"{label} {i // size}"},
        )
        for i in range(n)
    ]


MINE = Data("mine.jsonl", [*rows(), *rows(12, "harmful")])


@pytest.mark.parametrize("name", DETECTORS)
def test_any_detector_refuses_no_more_of_its_rows_than_asked(name: str, tmp_path: Path) -> None:
    defense, before = build(name), fitted(name, "llava")
    # A threshold among the settings would hide the one that is set.
    over = {"threshold": 0.5} if "threshold" in before.config else {}
    before = replace(before, config={**before.config, **over})
    found, report = calibrate(VLM, defense, before, MINE, PLAN, progress=False)
    assert found.hash != before.hash
    assert stored_threshold(found) == report.threshold != stored_threshold(before)
    assert report.checked_on is not None
    assert report.set_on.n + report.checked_on.n == report.refused_before.n == 60
    assert report.set_on.value <= 0.1
    assert report.set_on.low <= report.set_on.value <= report.set_on.high
    assert report.set_on.groups == report.checked_on.groups == 10
    assert report.few
    many = report.model_copy(update={"set_on": report.set_on.model_copy(update={"n": 400})})
    for n, few in ((36, False), (35, True)):  # what shows the rate are the rows that check it
        checked = report.checked_on.model_copy(update={"n": n})
        assert many.model_copy(update={"checked_on": checked}).few is few
    assert many.model_copy(update={"checked_on": None}).few
    assert report.needed == 36
    loaded = Artifact.load(found.save(tmp_path / "new"))
    assert loaded.hash == found.hash
    setting, checking = halves(rows(), PLAN.seed)
    shares = {}
    with defense.apply(VLM, loaded):
        for part, indices in (("set", setting), ("checked", checking)):
            answers(VLM, [rows()[index].messages() for index in indices], max_new_tokens=1)
            decision = last_decision(VLM)
            assert decision.threshold == report.threshold
            shares[part] = float(decision.refuse.float().mean())
    assert shares["set"] == pytest.approx(report.set_on.value)
    assert shares["checked"] == pytest.approx(report.checked_on.value)


def test_no_group_is_in_both_halves_and_the_order_of_rows_does_not_matter() -> None:
    setting, checking = halves(rows(), 0)
    names = [{group_of(rows()[i].facts) for i in part} for part in (setting, checking)]
    assert not names[0] & names[1]
    assert sorted([*setting, *checking]) == list(range(60))
    backwards, _ = halves(rows()[::-1], 0)
    assert {59 - index for index in backwards} == set(setting)
    assert halves(rows(), 1)[0] != setting
    assert halves(rows(3), 0) == ([0, 1, 2], [])


def test_the_card_keeps_what_it_was_fitted_and_calibrated_on() -> None:
    defense, before = build("probe"), fitted("probe", "llava")
    once, report = calibrate(VLM, defense, before, MINE, PLAN, progress=False)
    other = Data("other.jsonl", rows(40, size=1))
    more = [
        replace(sample, id=f"o{sample.id}", question=f"o {sample.question}")
        for sample in other.samples
    ]
    twice, again = calibrate(VLM, defense, once, Data("other.jsonl", more), PLAN, progress=False)
    note = once.card["calibration"]
    assert (note["source"], note["max_fpr"], note["value"]) == ("mine.jsonl", 0.1, report.threshold)
    assert (note["n"], note["groups"], len(note["data"])) == (30, 10, 64)
    assert note["low"] <= note["rate"] <= note["high"]
    assert note["checked_on"]["n"] == 30
    assert once.card["earlier_calibrations"] == [before.card["calibration"]]
    assert twice.card["earlier_calibrations"] == [before.card["calibration"], note]
    assert twice.card["data"]["hash"] == before.card["data"]["hash"]
    assert twice.card["model"] == before.card["model"]
    assert again.left_out == 0
    assert again.scores_before == CalibrationRange.of(once.card).scores  # type: ignore[union-attr]
    assert {row.split for row in twice.split} == {"calibration", "test"}
    assert len(twice.split) == 100
    assert before.card == fitted("probe", "llava").card


def test_rows_that_were_seen_do_not_set_a_threshold_again() -> None:
    defense, before = build("probe"), fitted("probe", "llava")
    once, _ = calibrate(VLM, defense, before, MINE, PLAN, progress=False)
    twice, report = calibrate(VLM, defense, once, MINE, PLAN, progress=False)
    assert report.left_out == 30
    assert report.set_on.n + report.checked_on.n == 30  # type: ignore[union-attr]
    assert len(twice.split) == 60, "a row that was kept for the test is listed once"
    seen = Data("mine.jsonl", [rows()[index] for index in halves(rows(), 0)[0]])
    with pytest.raises(InputError, match="has seen all 30 benign rows"):
        calibrate(VLM, defense, once, seen, PLAN, progress=False)


def test_of_one_group_nothing_checks_the_threshold() -> None:
    one = Data("one.jsonl", rows(8, size=8))
    _, report = calibrate(VLM, build("probe"), fitted("probe", "llava"), one, PLAN, progress=False)
    assert (report.checked_on, report.set_on.n, report.set_on.groups) == (None, 8, 1)


@pytest.mark.parametrize("name", DETECTORS)
def test_layers_are_chosen_again_on_labelled_rows(name: str) -> None:
    defense, before = build(name), fitted(name, "llava")
    labelled = Data("mine.jsonl", [s for label in get_args(Label) for s in rows(48, label)])
    fit = chosen_again(VLM, defense, before, labelled, seed=0)
    found, report = calibrate(VLM, defense, before, labelled, PLAN, fit=fit, progress=False)
    assert report.fitted_again
    assert found.card["earlier_fits"][0]["hash"] == before.hash
    assert found.card["data"]["hash"] != before.card["data"]["hash"]
    assert {row.split for row in found.split} == {"fit", "calibration", "test"}
    groups = {
        split: {row.group for row in found.split if row.split == split and row.label == "benign"}
        for split in ("fit", "calibration", "test")
    }
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 16
    assert report.left_out == 24
    with pytest.raises(InputError, match=r"means fitting .* again, which needs harmful rows"):
        chosen_again(VLM, defense, before, Data("benign.jsonl", rows()), seed=0)


@pytest.mark.parametrize("fpr", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_what_is_not_a_rate_is_refused(fpr: float) -> None:
    with pytest.raises(InputError, match="above 0 and below 1"):
        CalibrationPlan(fpr=fpr)


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - set(DETECTORS)))
def test_what_is_not_a_detector_has_no_threshold(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is not a detector"):
        check_detector(build(name))


def test_harmful_rows_alone_set_no_threshold() -> None:
    with pytest.raises(InputError, match=r"All 12 rows of bad\.jsonl are harmful"):
        benign_rows(Data("bad.jsonl", rows(12, "harmful")))


def test_a_detector_that_does_not_decide_by_its_threshold_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def judge(self: object, prefill: Prefill) -> Decision:
        scores = torch.zeros(len(next(iter(prefill.states.values()))))
        return Decision(scores, scores > 1)

    from safesight.defenses.shared.linear_gate import LinearGate

    monkeypatch.setattr(LinearGate, "judge", judge)
    with pytest.raises(InputError, match="decides by 0 and not by the threshold"):
        calibrate(VLM, build("probe"), fitted("probe", "llava"), MINE, PLAN, progress=False)
    bare = replace(fitted("probe", "llava"), fitted={})
    with pytest.raises(InputError, match="stores no threshold"):
        calibrate(VLM, build("probe"), bare, MINE, PLAN, progress=False)


def test_a_refit_without_calibration_has_no_range() -> None:
    data = FitData(rows(10, "harmful"), rows(10))
    fit = load_defense("probe", folds=2).fit(VLM, data, progress=False)
    assert CalibrationRange.of(fit.card) is None
