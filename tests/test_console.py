"""What goes to the terminal is plain text: a path in square brackets is printed as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import safesight
from safesight.console import bar, stderr, stdout, waiting


@pytest.mark.parametrize("text", ["Logs: [red]runs", "[/a]", "[bold", "a [link=b] c [/] \\[d]"])
def test_nothing_is_read_as_markup(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    stderr().print(text)
    stdout().print(text)
    assert capsys.readouterr() == (f"{text}\n", f"{text}\n")


def test_consoles_are_made_in_one_place() -> None:
    package = Path(safesight.__file__).parent
    calls = re.compile(r"(?<!\.)\bConsole\(|rich\.print|from rich import print|from_markup")
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if calls.search(file.read_text(encoding="utf-8"))
    }
    assert found == {"console.py"}


def test_a_spinner_takes_any_text() -> None:
    with waiting("Loading [/a]"):
        pass


def test_a_progress_bar_takes_any_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with bar() as shown:
        shown.add_task("[red]asking", total=1)
    assert "[red]asking" in capsys.readouterr().err
