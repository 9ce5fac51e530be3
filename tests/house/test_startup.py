"""What may be loaded by whom at start: `import safesight` and `safesight --help` stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import safesight

HEAVY = ("torch", "transformers", "inspect_ai", "sklearn", "scipy", "datasets", "pandas")

_REPORT = "print('LOADED', *sorted(set(sys.modules) & {}))"


def _loaded(code: str) -> set[str]:
    """Which of HEAVY a fresh interpreter holds after running the code."""
    script = f"import sys\n{code}\n" + _REPORT.format(set(HEAVY))
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(result.stdout.rpartition("LOADED")[2].split())


def _run_cli(*words: str, code: int = 0) -> str:
    return (
        f"sys.argv = ['safesight', *{words!r}]\n"
        "from safesight.cli.main import main\n"
        "try:\n    main()\n"
        f"except SystemExit as stop:\n    assert (stop.code or 0) == {code}, stop.code\n"
    )


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _loaded("import safesight, safesight.registry, safesight.types") == set()


@pytest.mark.parametrize(
    "words", [("--help",), ("eval", "--help"), ("list", "defenses"), ("list", "tasks")]
)
def test_help_and_lists_load_no_torch(words: tuple[str, ...]) -> None:
    assert not _loaded(_run_cli(*words)) & {"torch", "transformers", "inspect_ai", "sklearn"}


@pytest.mark.parametrize(
    "words",
    [
        ("calibrate", "probe", "--data", "mine.csv", "-o", "new", "--fpr", "0"),
        ("transfer", "probe", "--fpr", "1"),
        ("fit", "no_such_defense", "-o", "new"),
        ("eval", "--limit", "0"),
        ("eval", "--defense", "no_such_defense"),
        ("eval", "--tasks", "no_such_task"),
        ("eval", "--judge", "no_such_judge"),
    ],
)
def test_an_impossible_option_is_refused_before_torch_loads(words: tuple[str, ...]) -> None:
    assert not _loaded(_run_cli(*words, code=2)) & {"torch", "transformers", "inspect_ai"}


def test_registering_the_tasks_loads_no_torch_and_reads_no_data() -> None:
    code = "import os\nos.environ['SAFESIGHT_DATA'] = '/nowhere'\nimport safesight.evals._registry"
    assert not _loaded(code) & {"torch", "transformers", "datasets"}


def test_the_check_can_fail() -> None:
    assert "torch" in _loaded("from safesight import VLM")


def test_every_name_of_the_package_resolves_and_completes() -> None:
    assert dir(safesight) == sorted(safesight.__all__)
    for name in set(safesight.__all__) - {"__version__"}:
        assert getattr(safesight, name).__name__ == name
    assert set(safesight.__all__) == {"__version__", *safesight._HOME}


def test_types_are_checked_for_every_name_of_the_package() -> None:
    tree = ast.parse(Path(safesight.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {
        alias.name: getattr(import_module(node.module or ""), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: getattr(safesight, name) for name in safesight._HOME}


def test_a_misspelt_name_is_put_right() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'sassa'\. Did you mean 'SASA'\?"):
        _ = safesight.sassa
    with pytest.raises(AttributeError, match=r"no attribute 'xyzzy'$"):
        _ = safesight.xyzzy
    assert not hasattr(safesight, "numpy")
