"""The page about attacks has all of them, with the budget that they have."""

from __future__ import annotations

import re

import pytest

from safesight import registry
from tests.contracts.test_attacks import DOES, built, fitting
from tests.house.source import ROOT

TABLE = (ROOT / "docs/concepts/attacks.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if line.startswith("| `")]
SAID = {"kept": "keeps", "made": "makes", "changed": "changes", "either": "changes"}


@pytest.mark.parametrize("name", registry.names("attack", builtin=True))
def test_an_attack_has_its_row(name: str) -> None:
    (row,) = [row for row in ROWS if f"`{name}`" in row[0]]
    attack = built(name)
    queries = attack(fitting(attack)).facts["budget"]["queries"]
    assert str(queries) in re.findall(r"\d+", row[4])
    assert row[3].startswith(SAID[DOES[name]])
