"""Changes are corrected for how many were tested, and every display says so."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console
from statsmodels.stats.multitest import multipletests

from safesight.cli.show import print_beside, print_scorecard
from safesight.compare import Scorecard, scorecard
from safesight.compare.families import by_family
from safesight.report import Beside, holm_note, render
from safesight.report.tables import columns, delta_rows
from tests.compare.fake_answers import cell

MARKED = ("sasa", "image_harm", "attack_success_rate")


def card_of(*arms: Any) -> Scorecard:
    return scorecard([answer for arm in arms for answer in arm])


@pytest.fixture(scope="module")
def card() -> Scorecard:
    """Sasa stops all of 40 attacks; nothing else changes by more than one answer."""
    return card_of(
        cell("h" * 40),
        cell("r" * 40, defense="sasa"),
        cell("r" * 12 + "h" * 28, defense="probe"),
        *(
            cell("c" * 40, defense=defense, task="vqa", label="benign", attack=None)
            for defense in ("none", "probe")
        ),
        cell("c" * 39 + "r", defense="sasa", task="vqa", label="benign", attack=None),
    )


def screen_of(card: Scorecard) -> str:
    file = io.StringIO()
    print_scorecard(card, Console(file=file, width=160, highlight=False, color_system=None))
    return file.getvalue()


def test_every_change_is_corrected_over_all_distinct_tests_of_its_kind(card: Scorecard) -> None:
    for against, family in ((True, "none"), (False, "probe")):
        tests: dict[tuple[Any, ...], float] = {}
        for delta in card.deltas:
            # Both metrics of attacks are asked in one task, so pooling tests nothing new.
            pooled = delta.task == "all" and delta.metric != "refusal_rate"
            if delta.against == family and not pooled:
                tests[delta.defense, delta.task, delta.metric] = delta.p_value
        adjusted = dict(zip(tests, multipletests([*tests.values()], method="holm")[1], strict=True))
        found = {
            (d.defense, d.task, d.metric): d.p_holm for d in card.deltas if d.against == family
        }
        assert {key: found[key] for key in adjusted} == pytest.approx(adjusted)
        assert len(by_family(card.deltas)[against]) == len(tests)


def test_a_single_task_costs_no_second_test(card: Scorecard) -> None:
    task, pooled = (
        card.delta("sasa", task, "attack_success_rate") for task in ("image_harm", "all")
    )
    assert task is not None
    assert pooled is not None
    assert pooled.p_holm == task.p_holm
    assert (task.p_holm or 1) < 1e-9


def test_what_is_clear_alone_need_not_be_after_the_correction() -> None:
    """Six of six: p = 0.03 by itself, and one of two tests with the refusals."""
    one = card_of(cell("h" * 6), cell("r" * 6, defense="sasa")).delta(*MARKED)
    assert one is not None
    assert one.p_value == pytest.approx(2 * 0.5**6)
    assert one.p_value < 0.05 < (one.p_holm or 0)
    assert not one.significant


def test_a_file_of_an_older_version_loads_and_claims_nothing(card: Scorecard) -> None:
    data = json.loads(card.model_dump_json())
    assert Scorecard.model_validate(data) == card
    for delta in data["deltas"]:
        del delta["p_holm"]
    older = Scorecard.model_validate(data)
    assert holm_note(older) is None
    assert not any(delta.significant for delta in older.deltas)
    for text in (screen_of(older), render(older)):
        assert "Holm" not in text
        assert "*" not in text.partition("Change on the same")[2]


def test_tables_mark_what_is_significant_and_say_what_the_family_is(card: Scorecard) -> None:
    note = holm_note(card)
    assert note is not None
    tests = by_family(card.deltas)
    assert f"all {len(tests[True])} changes from undefended" in note
    assert f"all {len(tests[False])} gains over a control" in note
    screen, page = " ".join(screen_of(card).split()), render(card)
    assert note in screen
    assert "-100.0*" in screen
    assert "-2.5 " in screen
    assert note.replace("'", "&#39;").replace("<", "&lt;") in page
    cells = {
        (defense, against, column.task, column.metric): found
        for defense, against, row in delta_rows(card, columns(card))
        for found, column in zip(row, columns(card), strict=True)
        if found is not None
    }
    for delta in card.deltas:
        shown = cells.get((delta.defense, delta.against, delta.task, delta.metric))
        if shown is not None:
            assert shown.text.endswith(" *") == delta.significant
            assert f"Holm p = {delta.p_holm:.2g}" in shown.notes


def test_every_table_with_a_rate_of_none_says_how_large_it_may_be(card: Scorecard) -> None:
    bound = "0 of 40: at most 8.8%"
    file = io.StringIO()
    print_beside("More", "Lead.", card, Console(file=file, width=160, color_system=None))
    assert bound in screen_of(card)
    assert bound in file.getvalue()
    page = render(card, beside=[Beside("More", "Lead.", card)])
    for section in ("trade", "scorecard", "beside-1"):
        text = page.partition(f'<section id="{section}">')[2].partition("</section>")[0]
        assert bound in text


def test_a_card_without_changes_has_no_note() -> None:
    assert holm_note(card_of(cell("hr"))) is None
