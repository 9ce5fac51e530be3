"""What the tables of a scorecard and the demo's screen show, at the widths people have."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from safesight import registry
from safesight.cli.demo_screen import print_all, print_screen
from safesight.cli.main import app
from safesight.cli.show import print_beside, print_scorecard
from safesight.compare import Scorecard, scorecard
from safesight.console import stderr, stdout
from safesight.errors import InputError
from safesight.report import verdict_sentence
from tests.compare.fake_answers import cell
from tests.house.source import ROOT
from tests.report.fakes import card

REPORT = Path("runs/demo/report.html")


def committed(name: str) -> Scorecard:
    text = (ROOT / "docs/results" / f"{name}.json").read_text(encoding="utf-8")
    return Scorecard.model_validate_json(text)


def shown(show: Callable[[Console], None], width: int = 160) -> list[str]:
    file = io.StringIO()
    show(Console(file=file, width=width, highlight=False, color_system=None))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_every_number_of_a_scorecard_is_whole(width: int) -> None:
    found = committed("demo")
    lines = shown(lambda to: print_scorecard(found, to), width)
    assert max(map(len, lines)) <= width
    words = Counter(" ".join(lines).split())
    wanted = Counter(
        text
        for row in found.rows
        if row.metric not in ("refusal_rate", "broken_rate")  # the latter is shown over all tasks
        for text in (f"{100 * row.value:.1f}", f"{100 * row.low:.1f}–{100 * row.high:.1f}")
    )
    wanted += Counter(
        f"{cost.answer_low:.2f}–{cost.answer_high:.2f}"
        for cost in found.overhead
        if cost.n and cost.answer_low is not None
    )
    assert {text: n for text, n in wanted.items() if words[text] < n} == {}
    assert all(words[name] for name in found.defenses if name != "none")


@pytest.mark.parametrize("width", [80, 100])
def test_the_screen_of_the_demo_is_one_table_with_intervals(width: int) -> None:
    found = committed("demo")
    lines = shown(lambda to: print_screen(found, REPORT, to), width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 34
    metrics = ("attack_success_rate", "over_refusal_rate", "benign_utility")
    rows = [found.row("sasa", "all", metric) for metric in metrics]
    assert sum(f"n {rows[0] and rows[0].n}" in line for line in lines) == 1
    wanted = [
        text.replace("100.0", "100")
        for row in rows
        if row is not None and row.value is not None
        for text in (f"{100 * row.value:.1f}", f"{100 * row.low:.1f}–{100 * row.high:.1f}")
    ]
    line = next(line for line in lines if line.startswith("sasa "))
    assert line.split()[:7] == ["sasa", *wanted]
    cost = next(cost for cost in found.overhead if cost.defense == "sasa")
    assert line.split()[7] == f"{cost.answer_ratio:.2f}"
    assert (len(line.split()) == 9) == (cost.answer_low is not None)


def test_the_screen_names_the_main_methods_with_their_controls_and_where_the_rest_is() -> None:
    found = committed("demo")
    lines = shown(lambda to: print_screen(found, REPORT, to), 80)
    top = next(index for index, line in enumerate(lines) if line.startswith("undefended"))
    arms = [line[:18].rstrip() for line in lines[top : lines.index("", top)]]
    assert arms == [
        "undefended",
        "sasa",
        "  probe",
        "rai",
        "image_tools",
        "  look_carefully",
        "tool_vector",
        "npo",
        "rmu",
        "  sft",
        "vsfa",
    ]
    hidden = len(found.defenses) - len(arms)
    assert f"All tables and {hidden} more defenses: safesight demo --all -o runs/demo" in lines
    assert lines[-1].endswith("runs/demo/report.html")


def test_everything_is_every_table() -> None:
    cards = committed("demo"), committed("one_word")
    text = "\n".join(shown(lambda to: print_all(*cards, REPORT, to), 100))
    for title in ("Scorecard, percent", "Change on the same", "Overhead", "With one word changed"):
        assert title in text
    assert "ecso" in text
    assert "sasa vs. probe" in text
    assert "runs/demo/report.html" in text


@pytest.mark.parametrize(
    ("option", "has_all"),
    [((), False), (("--all",), True), (("--limit", "7", "--defense", "sasa, rai"), False)],
)
def test_the_demo_prints_one_screen_unless_asked_for_all(
    option: tuple[str, ...], has_all: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safesight import evals, report
    from safesight.compare import folder
    from safesight.report import risk
    from safesight.workflows import evaluation

    cards = {"logs": committed("demo"), "one_word": committed("one_word")}
    monkeypatch.setattr(evaluation, "evaluate", lambda wanted: None)
    monkeypatch.setattr(
        folder, "scorecard_of", lambda logs, answers=None, judge=None: cards[logs.name]
    )
    monkeypatch.setattr(evals, "read_answers", lambda logs: [])
    monkeypatch.setattr(risk, "read_risk", lambda logs: None)
    monkeypatch.setattr(report, "write_report", lambda path, *parts, **more: path)
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path), *option])
    assert result.exit_code == 0, result.output
    assert verdict_sentence(cards["logs"]) in " ".join(result.stdout.split())
    assert ("Change on the same samples" in result.stdout) == has_all
    assert str(tmp_path / "report.html") in result.stdout
    assert (tmp_path / "one_word.json").is_file()
    same = " --defense 'sasa, rai' --limit 7" if "--limit" in option else ""
    assert (f"safesight demo --all{same} -o {tmp_path}" in result.stdout) != has_all


@pytest.mark.parametrize(
    ("option", "arms"),
    [
        (("--defense", "rai,npo"), (["none", "rai", "npo"], ["none", "npo"])),
        (("--defense", "safety_prompt"), (["none", "safety_prompt"], ["none"])),
        # Without an artifact for the model it is refused later, and not left out.
        (("--defense", "sasa", "--model", "bare"), (["none", "probe", "sasa"], ["none"])),
    ],
)
def test_the_demo_asks_the_chosen_arms(
    option: tuple[str, ...],
    arms: tuple[list[str], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from safesight.workflows import evaluation

    asked, names = [], registry.names

    def evaluate(wanted: evaluation.Evaluation) -> None:
        asked.append(wanted.arms)
        if len(asked) == 2:
            raise InputError("enough")

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    known = registry.names("model", builtin=True)
    monkeypatch.setattr(
        registry,
        "names",
        lambda kind, **which: [*known, "bare"] if kind == "model" else names(kind, **which),
    )
    CliRunner().invoke(app, ["demo", "-o", str(tmp_path), *option])
    assert asked == list(arms)


@pytest.mark.parametrize(
    ("option", "said"),
    [(("--defense", "saza"), "Did you mean 'sasa'?"), (("--model", "org/m"), "bundled model")],
)
def test_the_demo_names_what_it_does_not_know(
    option: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path), *option])
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_the_screen_says_what_attack_success_is_over_and_how_noisy_times_are() -> None:
    found = card()
    again = found.overhead[0].model_copy(
        update={"defense": "none", "answer_ratio": 1.02, "answer_low": None, "answer_high": None}
    )
    timed = found.model_copy(update={"overhead": [again, *found.overhead]})
    text = " ".join(" ".join(shown(lambda to: print_screen(timed, REPORT, to), 80)).split())
    assert "95% intervals that take all answers as independent" in text
    assert "Attack success: attacked requests only." in text
    assert any(
        line.startswith("undefended") and line.endswith("1.02")
        for line in shown(lambda to: print_screen(timed, REPORT, to), 80)
    )
    plain = timed.model_copy(update={"attacks": []})
    text = " ".join(" ".join(shown(lambda to: print_screen(plain, REPORT, to), 80)).split())
    assert "Attack success: all harmful requests." in text


def test_a_control_that_was_not_run_is_not_on_the_screen() -> None:
    found = card()
    rows = [row for row in found.rows if row.defense != "probe"]
    lines = shown(lambda to: print_screen(found.model_copy(update={"rows": rows}), REPORT, to), 80)
    assert not any(line.startswith("  probe") for line in lines)
    assert "All tables: safesight demo --all -o runs/demo" in lines


def test_overhead_has_its_n_and_a_dash_where_nothing_was_timed() -> None:
    found = card()
    text = "\n".join(shown(lambda to: print_scorecard(found, to)))
    for number in ("1.41 1.30–1.50 n 9", "1.07 1.00–1.10 n 8", "0.31 0.30–0.40 n 7"):
        assert number in text
    (cost,) = found.overhead
    refuses_all = found.model_copy(update={"overhead": [cost.model_copy(update={"n": 0})]})
    assert "1.07" not in "\n".join(shown(lambda to: print_scorecard(refuses_all, to)))


def test_colons_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    for console in (stdout(), stderr()):
        console.print("what is :bomb:?")
    assert [*capsys.readouterr()] == ["what is :bomb:?\n"] * 2


def test_square_brackets_are_text() -> None:
    """Names of models and notes are printed as they are, not read as markup."""
    found = card()
    told = found.provenance.model_copy(update={"notes": ["Left out: [a].eval is torn."]})
    changed = found.model_copy(update={"provenance": told, "model": "[red]model"})
    text = "\n".join(shown(lambda to: print_scorecard(changed, to)))
    assert "Left out: [a].eval is torn." in text
    assert "On [red]model, sasa lowers" in text


def test_invalid_answers_are_counted_in_their_cell() -> None:
    assert any("1 invalid" in line for line in shown(lambda to: print_scorecard(card(), to)))


def test_a_table_beside_the_scorecard_has_its_rates_and_what_it_shows() -> None:
    title, lead = "After an attack", "Look at the words."
    text = "\n".join(shown(lambda to: print_beside(title, lead, card(), to)))
    assert "After an attack, percent" in text
    assert lead in text
    assert "75.0" in text
    assert "Change on the same samples" not in text


def test_a_cell_or_change_over_fewer_answers_than_its_column_says_over_how_many() -> None:
    whole = cell("h" * 8)
    part = cell("r" * 4 + "h" * 2 + "ii", defense="safety_prompt")
    found = scorecard([*whole, *part])  # type: ignore[list-item]
    text = "\n".join(shown(lambda to: print_scorecard(found, to)))
    rates, changes = text.split("Change on the same samples")
    assert "n 6" in rates
    assert "n 6" in changes
