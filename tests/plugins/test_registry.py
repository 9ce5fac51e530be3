"""What the registry makes of other packages: whole ones, silent ones, and broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import pytest

from safesight import VLM, registry
from safesight.compare import control_of
from safesight.defenses import load_defense
from safesight.errors import PluginError
from safesight.workflows.evaluation import demo_defenses
from tests import tiny
from tests.cli.test_main import fails, run
from tests.plugins.packages import installed

Install = Callable[[Mapping[str, str], str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a package of these modules and entry points on the path, for one test."""

    def installing(modules: Mapping[str, str], entry_points: str) -> None:
        project = f'[project]\nname = "guest"\nversion = "2.0"\n{entry_points}'
        files = {f"src/{name}": text for name, text in modules.items()}
        monkeypatch.syspath_prepend(installed(tmp_path, {**files, "pyproject.toml": project}))
        invalidate_caches()
        registry._table.cache_clear()

    yield installing
    registry._table.cache_clear()


def group(kind: str, **targets: str) -> str:
    lines = [f'{name} = "{target}"' for name, target in targets.items()]
    return "\n".join([f'[project.entry-points."safesight.{kind}"]', *lines, ""])


def test_the_groups_are_plurals() -> None:
    assert sorted(registry.GROUPS.values()) == [
        "safesight.attacks",
        "safesight.benchmarks",
        "safesight.datasets",
        "safesight.defenses",
        "safesight.judges",
        "safesight.models",
        "safesight.stress_tests",
        "safesight.word_lists",
    ]


def test_a_package_says_itself_what_it_adds(install: Install) -> None:
    install(
        {
            "guest_said.py": '"""Not this."""\nclass A:\n    """Nor."""\n    summary = "Said."',
            "guest_doc.py": 'def f(n=None):\n    """Of a function.  And\n    more. """',
            "guest_value.py": '"""Of the\nmodule. And more.\n\nEven more."""\nWORDS = ("a",)',
            "guest_silent.py": "WORDS = ()\nclass B: ...",
        },
        group("attacks", said="guest_said:A", silent="guest_silent:B")
        + group("benchmarks", doc="guest_doc:f")
        + group("word_lists", value="guest_value:WORDS", mute="guest_silent:WORDS"),
    )
    assert registry.describe("attack", "said") == "Said."
    assert registry.describe("benchmark", "doc") == "Of a function."
    assert registry.describe("word_list", "value") == "Of the module."
    assert registry.describe("attack", "silent") == "From the package guest 2.0."
    assert registry.describe("word_list", "mute") == "From the package guest 2.0."


def test_a_name_that_is_taken_stays(install: Install) -> None:
    before = registry.names("judge")
    install({"guest_taken.py": ""}, group("judges", exact="guest_taken:Other", own="guest_taken:O"))
    assert registry.load("judge", "exact").__module__ == "safesight.judges.exact"
    assert registry.names("judge") == [*before, "own"]
    assert registry.names("judge", builtin=True) == before


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("raise RuntimeError('no GPU\\nat all')", "RuntimeError: no GPU"),
        ("def f(:", "SyntaxError"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_package_is_named_and_breaks_nothing_else(
    module: str, reason: str, install: Install, tmp_path: Path
) -> None:
    entries = group("defenses", ill="guest_ill:Ill") + group("models", ill="guest_ill:FOLDER")
    install({"guest_ill.py": module}, entries)
    listed = run("list", "defenses")
    assert listed.exit_code == 0
    assert "sasa" in listed.stdout
    assert "ill" in json.loads(run("list", "defenses", "--json").stdout)
    said = registry.describe("defense", "ill")
    assert "guest 2.0 cannot be imported" in said
    assert reason in said
    assert "\n" not in said
    fails(run("fit", "ill", "-o", str(tmp_path / "fit")), "guest 2.0", "uninstall it")
    with pytest.raises(PluginError, match="The defense 'ill' of the package guest"):
        load_defense("ill")
    # Nor does it stand in the way of the others.
    assert VLM.wrap(*tiny.fresh("llava")).name
    assert control_of("ill+sasa") == "ill+probe"
    assert all(defense.name != "ill" for defense in demo_defenses())


def test_a_built_in_name_that_is_broken_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """And keeps its traceback."""
    broken: dict[Any, Any] = {"judge": {"gone": registry.Entry("safesight.judges.gone:Gone", "")}}
    monkeypatch.setattr(registry, "_table", broken.__getitem__)
    with pytest.raises(ModuleNotFoundError):
        registry.load("judge", "gone")
