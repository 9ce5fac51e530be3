"""`safesight data`: what it finds in a file, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from safesight.cli.main import app
from safesight.data import COLUMNS


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["data", *words])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    path = tmp_path / "rows.csv"
    lines = ["prompt,label,file,note"]
    lines += [f"harmful {i},harmful,a.png," for i in range(6)]
    lines += [f"benign {i},benign,," for i in range(6)]
    path.write_text("\n".join(lines) + "\n")
    return path


MAPPED = ("--column", "question=prompt", "--column", "image=file")


def test_a_good_file_is_counted_shown_and_warned_about(rows: Path) -> None:
    result = run("check", str(rows), *MAPPED)
    assert result.exit_code == 0, result.output
    assert "12 rows, 12 usable" in result.stdout
    assert "harmful: 6 rows in 6 groups, 100% with pictures" in result.stdout
    assert "Having a picture alone tells harmful rows from benign ones" in result.stdout
    assert "Columns that are not used: note" in result.stdout
    assert sum("harmful " in line and "a.png" not in line for line in result.stdout.split("\n")) > 5


def test_a_prompt_that_is_labelled_both_ways_is_warned_about(rows: Path) -> None:
    rows.write_text(rows.read_text() + "benign  1,harmful,,\nbenign 2,harmful,a.png,\n")
    found = json.loads(run("check", str(rows), *MAPPED, "--json").stdout)
    said = [each for each in found["warnings"] if "Labelled" in each]
    assert said == ["Labelled harmful in one row and benign in another: 1 prompt."]


def test_every_wrong_row_is_named_and_the_exit_code_says_so(rows: Path) -> None:
    rows.write_text(rows.read_text() + "x,bad,,\ny,safe,nosuch.png,\nz,safe,half.png,\n")
    result = run("check", str(rows), *MAPPED, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [each["place"] for each in found["faults"]] == ["line 14", "line 15", "line 16"]
    assert "not in a readable format" in found["faults"][2]["fault"]
    assert (found["rows"], found["usable"]) == (15, 13)
    quick = json.loads(run("check", str(rows), *MAPPED, "--json", "--no-pictures").stdout)
    assert len(quick["faults"]) == 2


def test_the_columns_are_listed(rows: Path) -> None:
    assert json.loads(run("columns", "--json").stdout) == COLUMNS
    assert "question" in run("columns").stdout
    assert run("check").exit_code == 2
    assert run("check", str(rows.with_name("nosuch.csv"))).exit_code == 2


@pytest.mark.parametrize("content", ["", "question,label\n"])
def test_a_file_without_rows_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.csv").write_text(content)
    result = run("check", str(tmp_path / "rows.csv"))
    assert result.exit_code == 2
    assert result.stderr.strip().endswith("has no rows. Write one prompt per row.")
