"""Contrasts: what is counted, paired, and corrected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safesight.experiments.contrasts import CONTRASTS, Judged, contrasts_of, rates_of, table_of
from safesight.stats import holm
from safesight.tools import CONDITIONS
from safesight.types import Verdict


def cell(*verdicts: Verdict) -> list[Judged]:
    return [Judged(str(i), verdict, False, 3, 10) for i, verdict in enumerate(verdicts)]


HARM: list[Verdict] = ["harmful", "harmful", "harmful", "refused"]
CELLS = {
    ("image_harm", "direct"): cell(*HARM),
    ("image_harm", "schema"): cell("harmful", "harmful", "refused", "refused"),
    ("image_harm", "text_trace"): cell("harmful", "harmful", "harmless", "refused"),
    ("image_harm", "tool"): cell("refused", "refused", "refused", "refused"),
}


def rows(**wanted: str) -> list[dict[str, object]]:
    found = contrasts_of(CELLS)
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def test_the_total_is_the_sum_of_its_steps() -> None:
    deltas = [row["delta"] for row in rows(metric="attack_success_rate")]
    assert deltas[0] == -0.75
    assert deltas[0] == pytest.approx(sum(deltas[1:4]))  # type: ignore[arg-type]


def test_the_relative_reduction_is_of_the_direct_rate() -> None:
    (total,) = rows(metric="attack_success_rate", name="total")
    assert total["relative_reduction"]["value"] == 1.0  # type: ignore[index]


def test_an_answer_that_could_not_be_judged_takes_its_pair_out() -> None:
    cells = {**CELLS, ("image_harm", "tool"): cell("invalid", "refused", "refused", "refused")}
    (total,) = [
        row
        for row in contrasts_of(cells)
        if row["name"] == "total" and row["metric"] == "attack_success_rate"
    ]
    assert total["n"] == 3
    assert total["delta"] == pytest.approx(-2 / 3)
    (rate,) = [
        row
        for row in rates_of(cells)
        if row["condition"] == "tool" and row["metric"] == "attack_success_rate"
    ]
    assert (rate["n"], rate["invalid"]) == (3, 1)


def test_holm_never_makes_a_p_value_smaller() -> None:
    found = rows(metric="attack_success_rate")
    assert all(row["p_holm"] >= row["p_value"] for row in found)  # type: ignore[operator]
    expected = holm([row["p_value"] for row in found])  # type: ignore[misc]
    assert [row["p_holm"] for row in found] == expected
    assert any(row["p_holm"] > row["p_value"] for row in found)  # type: ignore[operator]


def test_contrasts_are_between_conditions_that_exist() -> None:
    assert {c.condition for c in CONTRASTS} | {c.against for c in CONTRASTS} == set(CONDITIONS)


def test_the_table_has_one_row_per_contrast_that_was_run() -> None:
    table = table_of(contrasts_of(CELLS))
    assert len(table.labels) == 4
    assert len(table.columns) == 3
    assert all(len(column.cells) == 4 for column in table.columns)


def test_contrasts_are_over_things() -> None:
    """Planted: all answers are about one thing, so they are one observation."""
    cells = {
        key: [replace(answer, group="axe") for answer in answers] for key, answers in CELLS.items()
    }
    (total,) = [
        row
        for row in contrasts_of(cells)
        if row["name"] == "total" and row["metric"] == "attack_success_rate"
    ]
    assert (total["groups"], total["p_value"]) == (1, 1.0)
    assert {row["groups"] for row in rates_of(cells)} == {1}
    assert {row["groups"] for row in rates_of(CELLS)} == {None}
