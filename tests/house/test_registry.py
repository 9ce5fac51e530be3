"""Every name resolves to what it says it is, and every defense has its card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from safesight import registry
from tests.house.source import ROOT

CARDS = ROOT / "docs/cards"

HEADINGS = (
    "In one paragraph",
    "Where it acts",
    "Equation to code",
    "Use it",
    "Fit it",
    "What it costs",
    "Numbers: theirs, ours, and why they differ",
    "Known failures",
    "Cite",
)

DEFENSES = [name for name in registry.names("defense") if name != "none"]


@pytest.mark.parametrize("kind", get_args(registry.Kind))
def test_names_resolve_and_are_described(kind: registry.Kind) -> None:
    for name in registry.names(kind):
        found = registry.load(kind, name)
        assert registry.describe(kind, name).endswith(".")
        if kind in ("defense", "judge", "attack"):
            assert found.name == name
        if kind == "model":
            assert isinstance(found, Path)
            assert found.is_dir()


def wrong_headings(text: str) -> list[str]:
    found = re.findall(r"^## (.+)$", text, re.MULTILINE)
    if found != list(HEADINGS):
        return [f"headings are {found}, not {list(HEADINGS)}"]
    bodies = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    return [
        f"{heading}: empty" for heading, body in zip(found, bodies, strict=True) if not body.strip()
    ]


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_has_a_card(name: str) -> None:
    path = CARDS / f"{name}.md"
    assert path.is_file(), f"write {path.relative_to(ROOT)}"
    text = path.read_text(encoding="utf-8")
    assert wrong_headings(text) == []
    defense = registry.load("defense", name)
    assert f"<!-- fill: config {name} -->" in text
    assert f"`{defense.kind}`" in text
    for link in re.findall(r"(?:arXiv |arxiv.org/abs/)(\d{4}\.\d{5})", defense.paper):
        assert link in text


def test_no_card_is_left_of_a_defense_that_is_gone() -> None:
    assert {path.stem for path in CARDS.glob("*.md")} <= set(DEFENSES)


def test_the_heading_check_can_fail() -> None:
    good = "".join(f"## {heading}\ntext\n" for heading in HEADINGS)
    assert wrong_headings(good) == []
    assert wrong_headings(good.replace("## Cite\n", ""))
    assert wrong_headings(good.replace("## Cite\ntext\n", "## Cite\n\n"))
