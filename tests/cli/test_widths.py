"""What commands print at the widths that terminals have: no number and no name is broken."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safesight.cli.layers import _print
from safesight.cli.main import app
from safesight.cli.try_ import _print as _replies
from safesight.console import stdout
from safesight.experiments.contrasts import table_of
from safesight.grid import print_grid
from tests.cli.test_main import VERBS
from tests.house.source import ROOT
from tests.report import layer_fakes

WIDTHS = (60, 80, 200)
_WHOLE = re.compile(r"[^\s│]*(?:\d|_)[^\s│]*")
"""Numbers, and names of more than one word."""


def printed(width: int, *words: str) -> str:
    result = CliRunner(env={"COLUMNS": str(width)}).invoke(app, list(words))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def is_whole(narrow: str, wide: str, width: int) -> None:
    assert max(map(len, narrow.splitlines())) <= width
    assert set(_WHOLE.findall(wide)) <= set(_WHOLE.findall(narrow))


def layers() -> None:
    _print(layer_fakes.report())


def recipe() -> None:
    committed = gzip.decompress((ROOT / "docs/results/image_tools.json.gz").read_bytes())
    print_grid(stdout(), table_of(json.loads(committed)["contrasts"]))


def replies() -> None:
    decisions = {"sasa": {"score": 1.25, "threshold": 0.75, "refused": True}}
    arms = ("none", "safety_prompt", "look_carefully+sasa")
    _replies([{"defense": arm, "answer": "a b", "decisions": decisions} for arm in arms])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("show", [layers, recipe, replies])
def test_tables_are_whole(
    show: Callable[[], None],
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = []
    for columns in (400, width):
        monkeypatch.setenv("COLUMNS", str(columns))
        show()
        texts.append(capsys.readouterr().out)
    is_whole(texts[1], texts[0], width)


@pytest.mark.parametrize(
    "words", [("list", "defenses"), ("spurious", "mirage", "--n", "60", "--least", "2")]
)
def test_what_a_command_prints_is_whole(words: tuple[str, ...]) -> None:
    wide = printed(400, *words)
    for width in WIDTHS:
        is_whole(printed(width, *words), wide, width)


def test_where_logs_are_is_one_line_that_can_be_copied(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 90)
    words = ["eval", "--defense", "none", "--tasks", "vqa", "--limit", "1", "--overhead", "0"]
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*words, "--log-dir", str(folder)])
    assert result.exit_code == 0, (result.output, result.exception)
    assert f"safesight report {folder} -o report.html\n" in result.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_help_cuts_nothing_off_and_its_examples_can_be_copied(verb: str) -> None:
    text = printed(80, verb, "--help")
    assert "…" not in text
    commands = text.partition(" Examples")[2].replace(" \\\n", " ")
    for line in commands.splitlines():
        assert not line.strip() or line.startswith((" $ safesight ", "   -")), line
