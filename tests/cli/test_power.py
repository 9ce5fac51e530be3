"""`safesight power`: what is printed, and what cannot be asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from safesight.cli.main import app

DELTA, BASE = ["--delta", "0.05"], ["--baseline", "0.4"]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["power", *arguments], env={"COLUMNS": "200"})


def found(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.output))


def test_the_samples_a_change_needs_are_said_with_what_is_assumed() -> None:
    text = " ".join(run(*DELTA, *BASE).output.split())
    assert "A change of 5 points from 40% needs 1574 samples" in text
    assert "the arms differ on 49% of the samples, as if they succeeded independently" in text
    assert "McNemar's exact test" in text
    numbers = found(*DELTA, *BASE)
    assert (numbers["n_needed"], numbers["groups_needed"]) == (1574, 1574)
    assert numbers["discordant"] == pytest.approx(0.49)


def test_question_and_answer_can_be_turned_around() -> None:
    assert found("--n", "1574", *BASE)["smallest_delta"] == pytest.approx(0.05, abs=5e-4)
    assert found("--n", "1574", *DELTA, *BASE)["power_at_n"] == pytest.approx(0.8, abs=0.01)
    assert found("--n", "5", *BASE)["smallest_delta"] is None
    assert "no change from 40% is found" in run("--n", "5", *BASE).output


def test_groups_comparisons_and_assumptions_cost_samples() -> None:
    plain = found(*DELTA, *BASE)["n_needed"]
    alike = found(*DELTA, *BASE, "--group-size", "5")
    assert alike["n_needed"] == 5 * plain
    assert alike["groups_needed"] == plain
    some = found(*DELTA, *BASE, "--group-size", "5", "--icc", "0.5")
    effect = found(*DELTA, *BASE, "--design-effect", "3")
    assert some["n_needed"] == effect["n_needed"] == 3 * plain
    assert found(*DELTA, *BASE, "--comparisons", "20")["n_needed"] > 1.5 * plain
    assert found(*DELTA, *BASE, "--discordant", "worst")["n_needed"] > 1.5 * plain
    assert found(*DELTA, *BASE, "--discordant", "0.1")["n_needed"] < plain / 3
    text = " ".join(run(*DELTA, *BASE, "--group-size", "5").output.split())
    assert f"{5 * plain} samples in {plain} groups" in text
    assert "5 samples count as one independent sample, as if all samples of a group" in text


@pytest.mark.parametrize("delta", ["0.00001", "1e-300"])
def test_a_change_too_small_for_a_million_samples_is_said(delta: str) -> None:
    for more in ([], ["--json"], ["--group-size", "50"]):
        result = run("--delta", delta, *BASE, *more)
        assert result.exit_code == 2, result.output
        told = " ".join(result.output.replace("│", " ").split())
        assert "needs more than 1000000 samples to be found" in told


def test_an_assumption_that_needs_more_than_a_million_is_a_cell_of_the_table() -> None:
    assert ">1000000" in run("--delta", "0.0025", *BASE).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (BASE, "Give --delta"),
        ([*BASE, "--delta", "0.7"], "at most 0.6"),
        ([*BASE, *DELTA, "--discordant", "often"], "not a number, independent or worst"),
        ([*BASE, *DELTA, "--discordant", "nan"], "above 0 and at most 1"),
        ([*BASE, *DELTA, "--discordant", "0.01"], "differ on 0.05 to 0.85"),
        (["--baseline", "0.01", "--n", "100", "--discordant", "0.9"], "Change --discordant"),
        ([*BASE, *DELTA, "--icc", "0.5"], "--group-size"),
        ([*BASE, *DELTA, "--group-size", "2", "--icc", "1", "--design-effect", "2"], "the same"),
        ([*BASE, "--delta", "nan"], "at most 0.6"),
        ([*BASE, *DELTA, "--power", "1"], "--power"),
        ([*BASE, *DELTA, "--design-effect", "inf"], "--design-effect"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output + (result.stderr or "")
