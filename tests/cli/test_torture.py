"""The random trials of wrong command lines: a few of them, and that they notice a fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.torture import commands

from safesight import registry


def test_wrong_command_lines_are_refused(tmp_path: Path) -> None:
    found = commands.run(len(commands.SOUND), 7, tmp_path)
    assert found["faults"] == []
    assert found["refused"] == found["tried"] == len(commands.SOUND)


@pytest.mark.parametrize(
    "line", [["list", "defenses"], ["spurious", "mirage", "--n", "20", "--json", "new.json"]]
)
def test_a_line_that_runs_is_a_fault(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert commands._fault(line) == "exit code 0"


def test_a_traceback_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kind: object, name: str) -> None:
        raise KeyError("ours")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "check", broken)
    assert commands._fault(["eval", "--defense", "sasa"]) == "KeyError: 'ours'"
