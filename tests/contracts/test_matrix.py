"""The published matrix architecture x defense: complete, without a failure, and still true."""

from __future__ import annotations

import json

import pytest

from safesight import registry
from tests.contracts.matrix import DEFENSES, FAMILIES, cell
from tests.house.source import ROOT

OURS = [name for name in registry.names("defense", builtin=True) if name in DEFENSES]
SOME = [
    ("sasa", "gemma4"),
    ("probe", "gemma4"),
    ("shiftdc", "gemma4"),
    ("npo", "gemma4"),
    ("image_tools", "gemma4"),
    ("image_tools", "kimi_k25"),
    ("image_tools", "molmo2"),
    ("rai", "llama4"),
    ("hidden_detect", "qwen3_5"),
    ("ecso", "smolvlm"),
    ("refusal_direction", "minicpmv4_6"),
    ("coca", "janus"),
    ("probe", "janus"),
    ("tool_vector", "lfm2_vl"),
]
"""Where architectures and defenses meet in a way of their own."""


def published() -> dict[tuple[str, str], dict[str, str]]:
    rows = json.loads((ROOT / "docs/results/matrix.json").read_text(encoding="utf-8"))["rows"]
    return {(row["defense"], row["architecture"]): row for row in rows}


def test_every_cell_works_or_is_refused_with_a_sentence() -> None:
    cells = published()
    assert set(cells) >= {(defense, family) for defense in OURS for family in FAMILIES}
    for where, row in cells.items():
        assert row["result"] in ("works", "refused"), (where, row)
        assert (row["result"] == "works") == (row["sentence"] == ""), where
        assert row["result"] == "works" or row["sentence"].endswith("."), where


@pytest.mark.parametrize(("defense", "family"), SOME)
def test_what_is_published_is_so(defense: str, family: str) -> None:
    found = cell(defense, family)
    row = published()[defense, family]
    assert vars(found) == {"result": row["result"], "sentence": row["sentence"]}
