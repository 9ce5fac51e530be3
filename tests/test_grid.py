"""Tables fit the width, lose nothing, and break no number and no name."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from safesight.grid import Column, Grid, print_grid

RATES = [("45.0", "36.4–53.9"), ("100.0", "95.4–100.0"), ("–",)]
GRID = Grid(
    "A title",
    ["undefended", "safety_prompt+npo~int4", "refusal_direction"],
    [Column((f"attack success {i}", f"n {i}"), RATES, f"group {i // 2}") for i in range(6)],
    corner=("arm",),
)


def printed(grid: Grid, width: int) -> list[str]:
    file = io.StringIO()
    print_grid(Console(file=file, width=width, highlight=False, color_system=None), grid)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160, 200])
def test_nothing_is_broken_and_nothing_is_lost(width: int) -> None:
    lines = printed(GRID, width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for word in ("45.0", "36.4–53.9", "100.0", "95.4–100.0"):
        assert words.count(word) == 6
    blocks = sum(line.startswith("A title") for line in lines)
    assert all(words.count(label) == blocks for label in GRID.labels)


def test_intervals_stand_beside_values_where_there_is_room() -> None:
    assert any("45.0 36.4–53.9" in line for line in printed(GRID, 200))
    assert not any("45.0 36.4–53.9" in line for line in printed(GRID, 100))


def test_columns_of_a_group_stay_together() -> None:
    wide_enough_for_three = printed(GRID, 64)
    heads = [line for line in wide_enough_for_three if line.startswith("arm")]
    assert [head.split()[1:] for head in heads] == [
        ["n", "0", "n", "1"],
        ["n", "2", "n", "3"],
        ["n", "4", "n", "5"],
    ]


def test_a_column_that_is_wider_than_the_terminal_is_not_cut_off() -> None:
    assert "95.4–100.0" in "\n".join(printed(GRID, 20))


def test_long_labels_are_broken_between_names() -> None:
    grid = Grid("", ["safety_prompt+look_carefully+npo~int4"], [Column(("x",), [("1",)])])
    assert [line.split()[0] for line in printed(grid, 80)[-3:-1]] == [
        "safety_prompt+",
        "look_carefully+npo~int4",
    ]


def test_square_brackets_are_text() -> None:
    grid = Grid("[bold]title", ["[a]"], [Column(("[b]",), [("[c]", "[d]")])])
    shown = "\n".join(printed(grid, 80))
    for text in ("[bold]title", "[a]", "[b]", "[c]", "[d]"):
        assert text in shown


def test_an_empty_grid_has_its_headings() -> None:
    assert "x" in "\n".join(printed(Grid("t", [], [Column(("x",), [])]), 80))
