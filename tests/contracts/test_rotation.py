"""The deal of architectures leaves no defense and no kind of defense out."""

from __future__ import annotations

import itertools

import pytest

from safesight import registry
from tests import tiny
from tests.contracts.defense_helpers import DEFENSES, DETECTORS
from tests.contracts.rotation import TURNS, dealt

FEW = ("llava", "qwen3_vl")


@pytest.mark.parametrize("families", [tiny.FAMILIES, FEW])
@pytest.mark.parametrize("names", [DEFENSES, DETECTORS])
def test_every_kind_meets_every_architecture_in_every_turn(names, families) -> None:
    def kind(name: str) -> str:
        return str(registry.load("defense", name).kind)

    kinds = {kind(name) for name in names if name != "none"}
    for turn in range(TURNS):
        pairs = dealt(names, turn, families)
        assert len(set(pairs)) == len(pairs)
        assert {name for name, _ in pairs} == set(names)
        met = {(kind(name), family) for name, family in pairs if name != "none"}
        assert met == set(itertools.product(kinds, families))


@pytest.mark.parametrize("families", [tiny.FAMILIES, FEW])
def test_the_turns_together_are_every_pair(families) -> None:
    turns = [dealt(DEFENSES, turn, families) for turn in range(TURNS)]
    assert set().union(*turns) == set(itertools.product(DEFENSES, families))
    assert sum(map(len, turns)) < 2 * len(DEFENSES) * len(tiny.FAMILIES)
