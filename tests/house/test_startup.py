"""What may be loaded by whom at start: `import safesight` and `safesight --help` stay light."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "inspect_ai", "sklearn", "scipy", "plotly", "datasets", "pandas")

_REPORT = "print('LOADED', *sorted(set(sys.modules) & {}))"


def _loaded(code: str) -> set[str]:
    """Which of HEAVY a fresh interpreter holds after running the code."""
    script = f"import sys\n{code}\n" + _REPORT.format(set(HEAVY))
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(result.stdout.rpartition("LOADED")[2].split())


def _run_cli(*words: str) -> str:
    return (
        f"sys.argv = ['safesight', *{words!r}]\n"
        "from safesight.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
    )


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _loaded("import safesight, safesight.registry, safesight.types") == set()


@pytest.mark.parametrize("words", [("--help",), ("eval", "--help"), ("list", "defenses")])
def test_help_and_lists_load_no_torch(words: tuple[str, ...]) -> None:
    assert not _loaded(_run_cli(*words)) & {"torch", "transformers", "inspect_ai", "sklearn"}


def test_the_check_can_fail() -> None:
    assert "torch" in _loaded("from safesight import VLM")


def test_every_name_of_the_package_can_be_imported() -> None:
    code = "import safesight\nfor name in safesight.__all__: getattr(safesight, name)"
    assert _loaded(code)
