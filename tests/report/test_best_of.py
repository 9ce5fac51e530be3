"""Attacks with several tries: a table of their own, and what the page and the terminal say."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from safesight.cli.show import print_beside, print_scorecard
from safesight.compare import Provenance, Scorecard
from safesight.report import (
    Beside,
    budget_note,
    render,
    tries_columns,
    tries_notes,
    verdict_sentence,
)
from safesight.report.tables import columns
from tests.compare.fake_answers import FakeAnswer, cell
from tests.compare.test_tries import HIDDEN, asked, card_of
from tests.report.test_html import Page

TASK = "image_harm+best_of_n"


def arms(*repeat: str) -> list[list[FakeAnswer]]:
    """The defense stops all single tries, and three of the four goals in five."""
    found = [
        cell("h" * 10),
        cell("r" * 10, defense="sasa"),
        asked(*["hhhhh"] * 4),
        asked(*HIDDEN, defense="sasa"),
    ]
    for arm in ("none", "sasa") if repeat else ():
        found.append(asked(*repeat, task="image_harm+repeat", defense=arm))
    return found


def printed(card: Scorecard, width: int = 200) -> str:
    file = io.StringIO()
    print_scorecard(card, Console(file=file, width=width, color_system=None))
    return file.getvalue()


def test_the_headline_is_of_single_tries_and_names_the_strongest_attack_with_several() -> None:
    sentence = verdict_sentence(card_of(*arms("rrrrr", "rrrrh", "rrrrr", "rrrrr")))
    assert "sasa lowers attack success from 100% (10 of 10: " in sentence
    assert f"Against sasa, {TASK} succeeds in 75% (" in sentence
    assert "within 5 tries, and in 25% (" in sentence
    assert "the plain requests, asked as often, do in 25% (" in sentence
    assert "kinds of attack" not in sentence
    alone = verdict_sentence(card_of(*arms()))
    assert alone.endswith("with the first; the plain requests were not asked as often.")


def test_where_nothing_is_asked_once_the_headline_says_within_how_many_tries() -> None:
    first, last = asked(*["hhh"] * 40), asked(*["rrr"] * 40, defense="sasa")
    assert "sasa lowers attack success within 3 tries from 100%" in verdict_sentence(
        card_of(first, last)
    )
    assert "of the attacks within 3 tries." in verdict_sentence(card_of(first))


def test_success_after_several_tries_has_a_table_of_its_own() -> None:
    card = card_of(*arms("rrrrr", "rrrrh", "rrrrr", "rrrrr"))
    text = printed(card)
    rates, rest = text.split("Attack success by the number of tries, percent")
    tries, changes = rest.split("Change on the same samples")
    assert "best of n" not in rates.split("Scorecard, percent")[1]
    line = next(line for line in tries.splitlines() if line.startswith("sasa"))
    values = [word for word in line.split() if "–" not in word]
    assert values[1:6] == ["25.0", "50.0", "50.0", "75.0", "25.0"]
    heads = ["1 try", "2 tries", "4 tries", "5 tries", "plain request, 5 tries"]
    assert [column.head for column in tries_columns(card)][:5] == heads
    assert all(word in tries for head in heads for word in head.split())
    assert "best of 5" in " ".join(changes.split())
    assert "Spent on each request: image_harm+best_of_n 5 queries" in text


@pytest.mark.parametrize("beside", [False, True])
def test_the_page_has_the_table_too(beside: bool) -> None:
    card = card_of(*arms("rrrrr", "rrrrh", "rrrrr", "rrrrr"))
    plain = card_of(cell("hr"))
    page = render(plain, beside=[Beside("Again", "Look.", card)]) if beside else render(card)
    assert not Page(page).open  # every element is closed
    table = page.split("attack success by the number of tries, table")[1].split("</table>")[0]
    assert "plain request, 5 tries" in table
    assert table.count("75%") == 1
    assert TASK not in {c.task for c in columns(card)}
    assert TASK in {c.task for c in columns(card, several=True)}
    assert ('id="several"' in page) is not beside
    assert "best of 5" in page or beside
    assert "by the number of tries" not in render(plain)


def test_the_table_beside_a_scorecard_has_it_too() -> None:
    file = io.StringIO()
    print_beside("Again", "Look.", card_of(*arms()), Console(file=file, width=200))
    assert "Attack success by the number of tries" in file.getvalue()


def test_an_attack_without_the_plain_request_says_what_to_run() -> None:
    drawn = {"limit": 7, "seed": 3, "only": {"kind": ["gun", "pill"]}}  # or it asks other requests
    place = Provenance(log_dir="runs/my logs", **drawn)
    card = card_of(*arms()).model_copy(update={"provenance": place, "temperature": 0.7})
    (note,) = tries_notes(card)
    command = (
        "safesight eval --model testbed --defense sasa --tasks image_harm+repeat "
        "--limit 7 --seed 3 --only kind=gun,pill --temperature 0.7 --log-dir 'runs/my logs'"
    )
    assert note == (
        f"Success of {TASK} may be due to the number of tries alone; to see how often the plain "
        f"request succeeds in 5, run: {command}"
    )
    assert " ".join(note.split()) in " ".join(printed(card).split())
    own = card_of(asked(*HIDDEN, task="mine+best_of_n"))
    assert "--defense none --tasks mine+repeat --data FILE" in tries_notes(own)[0]


def test_too_few_repetitions_and_greedy_ones_are_said() -> None:
    short, greedy = tries_notes(card_of(*arms("rr", "rr", "rr", "rr")))
    assert f"{TASK} had up to 5 tries and image_harm+repeat only 2" in short
    assert "repeat the plain requests 5 times, run: safesight eval" in short
    assert "--tasks image_harm+repeat:shots=5" in short
    assert "image_harm+repeat is that of a single try; --temperature 1" in greedy
    enough = card_of(*arms(*["rrrrr"] * 4))
    assert tries_notes(enough) == [greedy]
    assert tries_notes(enough.model_copy(update={"temperature": 1.0})) == []


def test_more_tries_than_usual_are_a_setting_of_the_command() -> None:
    (note,) = tries_notes(card_of(asked("r" * 20)))
    assert "succeeds in 20, run: " in note
    assert "--tasks image_harm+repeat:shots=20" in note


def test_a_conversation_says_which_shot_it_shows() -> None:
    found: Any = asked(*HIDDEN)
    page = render(card_of(found), found)
    assert "shot 5 of 5" in page
    assert "shot 2 of 5" in page


def test_what_single_queries_cost_is_not_said() -> None:
    assert budget_note(card_of(cell("hr"))) is None
