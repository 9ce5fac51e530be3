"""Every name resolves to what it says it is, and every defense has its card."""

from __future__ import annotations

import ast
import re
from typing import get_args

import pytest

from safesight import registry
from safesight.builtin import BUILTIN
from safesight.fitting.bundled import FOLDER
from safesight.models.built import BuiltModel
from safesight.workflows.evaluation import bundled_defenses
from tests.house.source import ROOT, Source, sources

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

DEFENSES = [name for name in registry.names("defense", builtin=True) if name != "none"]

# Files that name a defense although it is not theirs, and why. A new defense needs no line here:
# what others must know of it stands in its class.
NAMED_ELSEWHERE = {
    ("safesight.analysis.persona", "refusal_direction"): "the analysis adds a direction of its own",
    ("safesight.analysis.rai_controls", "rai"): "the analysis is of this defense alone",
    ("safesight.workflows.evaluation", "rai"): "only this defense has risk maps",
    ("safesight.app.asking", "rai"): "only this defense has risk maps",
    ("safesight.app.choices", "rai"): "a default",
    ("safesight.app.choices", "sasa"): "a default",
    ("safesight.cli.try_", "rai"): "only this defense has risk maps",
    ("safesight.cli.try_", "sasa"): "a default",
    ("safesight.cli.eval", "sasa"): "a default",
    ("safesight.cli.spurious", "probe"): "a heading",
    ("safesight.defenses.sasa", "probe"): "its control",
    ("safesight.defenses.rmu", "sft"): "a control on the demo's screen",
    ("safesight.defenses.image_tools.method", "look_carefully"): "a control on the demo's screen",
    ("safesight.experiments", "image_tools"): "an experiment of the same name",
    ("safesight.testbed.card", "probe"): "a column of the benchmark of styles",
    ("safesight.judges.keywords", "sasa"): "a list of refusal words of the same name",
    ("safesight.judges.keyword_lists", "sasa"): "a list of refusal words of the same name",
    ("safesight.judges.keywords", "adashield"): "a list of refusal words of the same name",
    ("safesight.judges.keyword_lists", "adashield"): "a list of refusal words of the same name",
}


def named_elsewhere(source: Source) -> set[tuple[str, str]]:
    """Names of defenses that a file holds as strings; in the files of a defense not its own."""
    homes = {name: BUILTIN["defense"][name].target.partition(":")[0] for name in DEFENSES}
    found = {node.value for node in ast.walk(source.tree) if isinstance(node, ast.Constant)}
    return {
        (source.module, name)
        for name, home in homes.items()
        if name in found and source.module not in (home, "safesight.builtin")
    }


@pytest.mark.parametrize("kind", get_args(registry.Kind))
def test_names_resolve_and_are_described(kind: registry.Kind) -> None:
    for name in registry.names(kind, builtin=True):
        found = registry.load(kind, name)
        assert registry.describe(kind, name).endswith(".")
        if kind in ("defense", "judge", "attack"):
            assert found.name == name
        if kind == "model":
            if isinstance(found, BuiltModel):
                assert found.name == name
            else:
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


def test_no_file_knows_a_defense_that_is_not_its_own() -> None:
    assert set().union(*map(named_elsewhere, sources())) == set(NAMED_ELSEWHERE)


def test_the_check_of_names_can_fail() -> None:
    text = '"""rai, sasa"""\nTUNED = ("npo", "none", "sft")\n'
    assert named_elsewhere(Source("safesight.cli.demo", text)) == {
        ("safesight.cli.demo", "npo"),
        ("safesight.cli.demo", "sft"),
    }
    assert not named_elsewhere(Source("safesight.defenses.npo", "name = 'npo'"))


def test_what_the_demo_needs_is_bundled() -> None:
    """And nothing else is: `make artifacts` fits exactly these, and some of them for others."""
    found = {place.name: {each.name for each in place.iterdir()} for place in FOLDER.iterdir()}
    assert set(found) <= set(registry.names("model", builtin=True))
    assert found["testbed"] == set(bundled_defenses())
    assert all(names <= found["testbed"] for names in found.values())
