"""Samples chosen by their facts: a fit and an evaluation split the same set in two."""

from __future__ import annotations

import pytest

from safesight.defenses import load_defense
from safesight.errors import InputError
from safesight.fitting.facts import covers, matches, parsed_facts, select, told, without
from safesight.fitting.provenance import provenance
from safesight.types import Sample
from safesight.workflows.artifacts import FitPlan, data_for, fit_data
from tests import tiny

WEAPONS = {"category": ["weapon"]}
TASKS = ("image_harm", "over_refusal", "sensitive_benign", "vqa")


def about(name: str, **facts: object) -> Sample:
    return Sample(name, "what is this?", "benign", name, facts=facts)


def test_facts_are_read_and_written() -> None:
    texts = ["concept=bomb, knife", "category=drug", "concept=bomb"]
    facts = parsed_facts(texts, "--only")
    assert facts == {"concept": ["bomb", "knife"], "category": ["drug"]}
    assert parsed_facts([told({fact: facts[fact]}) for fact in facts], "--only") == facts
    for bad in ("bomb", "=bomb", "concept=", "concept= ,"):
        with pytest.raises(InputError, match=r"--only .* FACT=VALUE"):
            parsed_facts([bad], "--only")


def test_the_two_halves_are_complementary() -> None:
    samples = [
        about("1", concept="cat", concepts=["cat", "dog"]),
        about("2", concept="dog"),
        about("3", concept="cow", group=7),
        about("4"),
    ]
    for facts in ({"concept": ["dog"]}, {"group": ["7"]}, {"concept": ["cat"], "group": ["7"]}):
        kept, left = select(samples, facts, "x"), without(samples, facts)
        assert sorted(s.id for s in (*kept, *left)) == ["1", "2", "3", "4"]
        assert kept
    assert [s.id for s in select(samples, {"concept": ["dog"]}, "x")] == ["1", "2"]
    assert select(samples, {}, "x") == samples


def test_a_fact_that_no_sample_has_is_an_error_with_the_values_there_are() -> None:
    samples = [about("1", concept="cat"), about("2", concept="dog")]
    with pytest.raises(InputError, match=r"No sample of pets has concept=dgo\. .*: cat, dog\."):
        select(samples, {"concept": ["dgo"]}, "pets")
    with pytest.raises(InputError, match="None has a kind"):
        select(samples, {"kind": ["pet"]}, "pets")


def test_a_fit_without_a_category_sees_none_of_its_things_anywhere() -> None:
    plan = FitPlan(TASKS, pool=80, share=1.0, calibration=40)
    whole = fit_data(plan)
    data = fit_data(FitPlan(TASKS, 80, 1.0, 40, held_out=WEAPONS))
    for part in ("harmful", "benign", "calibration_benign"):
        before, after = getattr(whole, part), getattr(data, part)
        assert {s.id for s in before if not matches(s, WEAPONS)} == {s.id for s in after}
        assert any("weapon" in s.facts["categories"] for s in before)
        assert not any("weapon" in s.facts["categories"] for s in after)
    assert provenance(tiny.vlm("llava"), data, 0)["data"]["held_out"] == WEAPONS
    assert provenance(tiny.vlm("llava"), whole, 0)["data"]["held_out"] == {}


def test_a_misspelt_fact_or_a_fit_on_rows_is_an_error() -> None:
    plan = FitPlan(TASKS, 20, 1.0, 10, held_out={"category": ["wepon"]})
    with pytest.raises(InputError, match=r"category=wepon.*weapon"):
        fit_data(plan)
    with pytest.raises(InputError, match="npo trains on rows"):
        data_for(load_defense("npo"), plan, "testbed")


def test_what_covers_what() -> None:
    assert covers({"category": ["weapon", "drug"]}, WEAPONS)
    assert not covers(WEAPONS, {"category": ["weapon", "drug"]})
    assert not covers(WEAPONS, {"concept": ["bomb"]})
