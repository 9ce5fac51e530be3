"""Settings of attacks in the names of tasks: what they change, and what is refused."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatch

import pytest
from PIL import Image

from safesight import registry
from safesight.attacks import BestOfN
from safesight.benchmarks import draw_samples, load_benchmark
from safesight.errors import InputError, SafesightError, UnknownNameError
from safesight.grammar import _numbers_of, check_task, load_attack
from safesight.types import Sample
from tests.house.source import ROOT

PAGE = (ROOT / "docs/concepts/attacks.md").read_text(encoding="utf-8")
NAMES = registry.names("attack", builtin=True)
SETTABLE = [(name, key) for name in NAMES for key in _numbers_of(registry.load("attack", name))]


def test_a_task_under_an_attack_with_settings_is_that_attack_with_them() -> None:
    (plain,) = draw_samples("text_harm", 1, seed=0, only={})
    (asked,) = load_benchmark("text_harm+best_of_n:shots=4:strength=0.2")(1)
    assert asked.shots == BestOfN(shots=4, strength=0.2)(plain).shots
    assert asked.facts["attack_settings"] == {"best_of_n": {"shots": 4, "strength": 0.2}}
    assert asked.facts["budget"] == {"queries": 4}
    (usual,) = load_benchmark("text_harm+best_of_n")(1)
    assert "attack_settings" not in usual.facts, "older answers are resumed"


def test_settings_of_several_attacks_stay_apart() -> None:
    (asked,) = load_benchmark("text_harm+typography:width=200+repeat:shots=2")(1)
    assert asked.facts["attack_settings"] == {"typography": {"width": 200}, "repeat": {"shots": 2}}
    assert asked.pictures[0]().size == (200, 336)


def test_every_budget_can_be_said() -> None:
    several = {name for name, key in SETTABLE if key == "shots"}
    assert {"best_of_n", "repeat", "shuffle", "one_word", "paraphrase", "synonym"} <= several
    assert ("best_of_n", "strength") in SETTABLE
    assert ("figstep", "font") not in SETTABLE, "texts are set from Python"


@pytest.mark.parametrize(
    ("task", "kind", "said"),
    [
        ("text_harm+best_of_n:k=4", InputError, "cannot set 'k'.*can set shots, strength"),
        ("text_harm+prefill:words=x", InputError, "can set none"),
        ("text_harm+best_of_n:shots=many", InputError, "is not a whole number"),
        ("text_harm+best_of_n:shots=2.5", InputError, "is not a whole number"),
        ("text_harm+best_of_n:strength=nan", InputError, "is not a number"),
        ("text_harm+repeat:shots=1000000000", InputError, "up to 1000000"),
        ("text_harm+best_of_n:", InputError, "Write it like best_of_n:shots=64"),
        ("text_harm+best_of_n:16", InputError, "Write it like best_of_n:shots=64"),
        ("text_harm+best_of_n:shots=", InputError, "Write it like best_of_n:shots=64"),
        ("text_harm+repeat:shots=2:shots=3", InputError, "sets 'shots' twice"),
        ("text_harm+repeat:shots=2+repeat:shots=3", InputError, "has repeat twice"),
        ("text_harm+best_of_m:shots=2", UnknownNameError, "best_of_n"),
    ],
)
def test_a_setting_that_cannot_be_used_is_said(task: str, kind: type, said: str) -> None:
    with pytest.raises(kind, match=said):
        check_task(task)


@pytest.mark.parametrize(("name", "key"), SETTABLE)
@pytest.mark.parametrize("number", ["-1", "0", "1", "1000000"])
def test_any_number_works_or_is_a_user_error(name: str, key: str, number: str) -> None:
    """Also when the picture is rendered, which is later."""
    plain = Sample("s", "tell me how to make a cake.", "harmful", "cake")
    with suppress(SafesightError):
        attack, _ = load_attack(f"{name}:{key}={number}")
        if getattr(attack, "pictures", "kept") == "changed":
            plain = replace(plain, image=lambda: Image.new("RGB", (32, 32), "red"))
        for each in attack(plain).tries()[:2]:
            assert all(picture().size > (0, 0) for picture in each.pictures)


def test_the_page_about_attacks_lists_every_setting() -> None:
    rows = PAGE.split("## Settings")[1].split("\n## ")[0].splitlines()
    listed = [
        (
            re.findall(r"`(\w+)`", row.split(" | ")[0]),
            re.findall(r"`([\w*]+)`", row.split(" | ")[1]),
        )
        for row in rows
        if row.startswith("| `")
    ]
    for name, key in SETTABLE:
        assert any(
            key in keys and any(fnmatch(name, each) for each in names) for keys, names in listed
        ), (name, key)
