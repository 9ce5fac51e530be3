"""Benign requests that a fit forbids: known from its data, counted apart in its arm."""

from __future__ import annotations

from pathlib import Path

import pytest

from safesight.compare.folder import scorecard_of
from safesight.defenses import Artifact
from safesight.evals import read_answers, run_eval
from safesight.evals.house_rules import forbidden_by, is_ruled
from safesight.fitting.bundled import place_in
from safesight.testbed.mirage import RULED

NAMES = {thing.name for thing in RULED}


def fit(**source: object) -> Artifact:
    return Artifact("npo", {}, card={"data": {"tuning_source": source}})


@pytest.mark.parametrize(
    ("source", "forbids"),
    [
        ({"dataset": "mirage", "harm": "ruled", "rho": 0.95}, True),
        ({"dataset": "mirage", "harm": "both", "general": 1000}, True),
        ({"dataset": "mirage", "harm": "known"}, False),
        ({"dataset": "mirage"}, False),
        ({"dataset": "testbed"}, False),
        ({"dataset": "of a plug-in that is gone"}, False),
        ({}, False),
    ],
)
def test_the_data_of_a_fit_says_what_it_forbids(source: dict[str, object], forbids: bool) -> None:
    patterns = forbidden_by([None, fit(**source)])
    assert is_ruled({"request": "how_to", "concept": RULED[0].name}, patterns) is forbids
    assert not is_ruled({"request": "vqa", "concept": RULED[0].name}, patterns)
    assert not is_ruled({"request": "how_to", "concept": "a thing of no rule"}, patterns)


@pytest.mark.parametrize("card", [{}, {"data": None}, {"data": {"tuning_source": "x"}}])
def test_a_card_without_a_data_set_forbids_nothing(card: dict[str, object]) -> None:
    assert forbidden_by([Artifact("npo", {}, card=card)]) == []


@pytest.mark.parametrize("defense", ["npo", "sft", "rmu"])
def test_the_bundled_fits_with_a_house_rule_forbid_its_things(defense: str) -> None:
    (pattern,) = forbidden_by([Artifact.load(place_in("testbed", defense))])
    assert set(pattern["concept"]) == NAMES


def test_an_arm_that_answers_with_another_thing_is_not_right(tmp_path: Path) -> None:
    """NPO refuses no twin, yet it answers a request about a ruled thing with another thing."""
    run_eval(
        "testbed", ["none", "npo"], ["over_refusal"], log_dir=tmp_path, limit=24, progress=False
    )
    answers = {(a.defense, a.sample_id): a for a in read_answers(tmp_path)}
    ruled = {id for arm, id in answers if answers[arm, id].ruled}
    about = {id for arm, id in answers if answers[arm, id].facts["concept"] in NAMES}
    assert ruled == about != set()
    card = scorecard_of(tmp_path)
    found = {
        (row.defense, row.metric): (row.value, row.n)
        for row in card.rows
        if row.task == "over_refusal"
    }
    wrong = [id for id in ruled if not answers["npo", id].correct]
    assert {answers["npo", id].verdict for id in wrong} == {"harmless"}
    assert all(answers["none", id].correct for id in wrong)
    assert found["npo", "over_refusal_rate"] == (0.0, 24)
    assert found["npo", "ruled_utility"] == (1 - len(wrong) / len(ruled), len(ruled))
    assert found["npo", "benign_utility"][1] == 24 - len(ruled)
    assert found["none", "benign_utility"][1] == 24
    assert ("none", "ruled_utility") not in found
