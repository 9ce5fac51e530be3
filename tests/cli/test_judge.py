"""`safesight judge`, and the judge that `compare` and `report` show."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safesight.cli.main import app
from safesight.evals import rejudging, run_eval
from tests.evals.conftest import fake_names as fake_names
from tests.evals.conftest import fakes as fakes


@pytest.fixture
def folder(fakes, tmp_path: Path, tmp_path_factory) -> Path:
    """A copy of a log that is made once."""
    made = tmp_path_factory.getbasetemp() / "one-log"
    if not made.exists():
        run_eval("fake", ["none"], ["pictures"], log_dir=made, limit=4, progress=False)
    return Path(shutil.copytree(made, tmp_path / "logs"))


def run(*words: object, code: int = 0) -> tuple[str, str]:
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == code, found.output
    return found.stdout, found.stderr


def test_saved_answers_are_judged_shown_and_compared(folder) -> None:
    shown, said = run("judge", folder, "--judge", "keywords", "--judge", "panel:exact+keywords")
    assert "panel:exact+keywords" in shown
    assert "disagreed" in shown
    assert f"safesight compare {folder} --judge keywords" in said
    found = json.loads(run("judge", folder, "--judge", "keywords", "--json", "-")[0])
    assert found[0] | {"log": ""} == {
        "log": "",
        "task": "pictures",
        "defense": "none",
        "judge": "keywords",
        "version": "3-sasa",
        "known": True,
        "verdicts": {"refused": 0, "harmful": 2, "harmless": 2, "invalid": 0},
        "failures": {},
        "disagreed": 0,
    }
    card = json.loads(run("compare", folder, "--judge", "keywords", "--json", "-")[0])
    assert {row["judge"] for row in card["rows"]} == {"keywords 3-sasa"}
    assert "judge exact 3;" in " ".join(run("compare", folder)[0].split())
    page = folder / "page.html"
    run("report", folder, "--judge", "keywords", "-o", page)
    assert "keywords 3-sasa" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["judge", "{}", "--judge", "keyword"], "Did you mean 'keywords'?"),
        (["judge", "{}", "--judge", "graded"], "Write it like graded:openai/gpt-4o."),
        (["judge", "{}", "--judge", "graded:self"], "Name the model: graded:safesight/MODEL."),
        (["judge", "{}/nowhere", "--judge", "keywords"], "There is no folder"),
        (["compare", "{}", "--judge", "keywords"], "--judge keywords"),
        (["compare", "{}", "--judge", "keyword"], "Did you mean 'keywords'?"),
        (["compare", "{}", "--judge", "graded:nobody/model"], "--judge graded:nobody/model"),
        (["report", "{}", "--judge", "panel:exact+rule"], "Did you mean 'rules'?"),
        (["report", "{}", "--judge", "panel:exact+rules", "-o", "{}/page.html"], "only by exact."),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(folder, words, said) -> None:
    _, message = run(*(word.format(folder) for word in words), code=2)
    assert said in message.replace("\n", " ")
    assert "Traceback" not in message


def test_what_is_stopped_says_how_to_resume(folder, monkeypatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rejudging, "judge_logs", stopped)
    _, message = run("judge", folder, "--judge", "keywords", code=130)
    assert "Run the same command again to resume." in message.replace("\n", " ")
