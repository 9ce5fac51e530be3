"""What goes to the terminal is plain text: a path in square brackets is printed as it is."""

from __future__ import annotations

import pytest

from safesight.console import bar, stderr, waiting


def test_remarks_are_not_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    stderr().print("Logs: [red]runs")
    assert "Logs: [red]runs" in capsys.readouterr().err


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
