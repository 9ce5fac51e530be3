"""Tables of numbers that fit the width of a terminal and never break a number or a name.

An interval stands after its value where all columns fit side by side, else under it. Columns that
still do not fit move to further blocks, each with the labels of the rows. This is layout only:
what a table says is up to its caller. All text is plain, so "[a]" is not read as markup.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["NO_BREAK", "Column", "Grid", "print_grid"]

Lines = tuple[str, ...]

NO_BREAK = "\N{NO-BREAK SPACE}"
"""Keeps two words of a heading on one line; printed as a space."""

_GAP = 2
_WORDS = re.compile(r"[^ -]+-*|-+")
_LONG_LABEL = 24


@dataclass(frozen=True)
class Column:
    """One column of a grid."""

    heads: Lines
    """From top to bottom; each may be broken between words."""
    cells: Sequence[Lines]
    """One cell per row: the value, then what is printed dimly beside or under it."""
    group: str = ""
    """Neighbours of one group are kept in one block where they fit."""


@dataclass(frozen=True)
class Grid:
    """A table: labelled rows, and columns of values with their intervals."""

    title: str
    labels: Sequence[str]
    columns: Sequence[Column]
    corner: Lines = ("",)
    """The heads above the labels."""


@dataclass(frozen=True)
class _Block:
    """A column ready to print."""

    heads: Lines
    cells: list[Text]
    group: str
    width: int
    """The narrowest at which no cell and no word of a heading is broken."""


def print_grid(console: Console, grid: Grid) -> None:
    """Print a grid, and a blank line after each of its blocks."""
    from rich.text import Text

    width = console.width
    side = _laid_out(Column(grid.corner, [_broken(label) for label in grid.labels]), inline=False)
    for inline in (True, False):
        columns = [_laid_out(column, inline) for column in grid.columns]
        blocks = list(_blocks(columns, width - side.width))
        if len(blocks) == 1:
            break
    for index, block in enumerate(blocks):
        title = grid.title if index == 0 else f"{grid.title} (continued)"
        console.print(Text(title, style="bold"))
        # Where not even one column fits, the terminal breaks the line: nothing is cut off.
        console.width = max(width, side.width + sum(_GAP + column.width for column in block))
        console.print(_table([side, *block]))
        console.width = width
        console.print()


def _broken(label: str) -> Lines:
    """A label, in several lines if it is long: broken at spaces and after a "+"."""
    if len(label) <= _LONG_LABEL:
        return (label,)
    parts = re.findall(r"[^+ ]+[+ ]*", label)
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1] + part.rstrip()) > _LONG_LABEL:
            lines.append("")
        lines[-1] += part
    return tuple(line.rstrip() for line in lines)


def _laid_out(column: Column, inline: bool) -> _Block:
    """Values flush right with the rest of the cell beside them, or the rest below."""
    from rich.text import Text

    gap = " " if inline else "\n"
    digits = max((len(value) for value, *_ in column.cells), default=0) if inline else 0
    cells = [
        Text.assemble(value.rjust(digits), *((gap + line, "dim") for line in more))
        for value, *more in column.cells
    ]
    words = [Text(word) for head in column.heads for word in _WORDS.findall(head)]
    width = max((text.cell_len for text in words), default=0)
    width = max([width, *(line.cell_len for cell in cells for line in cell.split())])
    return _Block(column.heads, cells, column.group, width)


def _blocks(columns: Sequence[_Block], width: int) -> Iterator[list[_Block]]:
    """Columns that fit side by side, in order; at least one per block."""
    block: list[_Block] = []
    left = width
    for _, members in groupby(columns, key=lambda column: column.group):
        group = list(members)
        together = sum(_GAP + column.width for column in group)
        if block and left < together <= width:
            yield block
            block, left = [], width
        for column in group:
            if block and left < _GAP + column.width:
                yield block
                block, left = [], width
            block.append(column)
            left -= _GAP + column.width
    yield block


def _table(columns: Sequence[_Block]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for head, column in zip(_heads(columns), columns, strict=True):
        table.add_column(head, width=column.width, no_wrap=True)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table


def _heads(columns: Sequence[_Block]) -> Iterator[Text]:
    """The headings, with the same part of every column on the same lines."""
    from rich.text import Text

    depth = max(len(column.heads) for column in columns)
    parts = [
        [
            _wrapped(head, column.width)
            for head in ("",) * (depth - len(column.heads)) + column.heads
        ]
        for column in columns
    ]
    heights = [max(len(part[level]) for part in parts) for level in range(depth)]
    for part in parts:
        *upper, last = (
            [""] * (height - len(lines)) + lines
            for height, lines in zip(heights, part, strict=True)
        )
        above = [line for lines in upper for line in lines]
        yield Text.assemble("\n".join([*above, ""]), ("\n".join(last), "dim"))


def _wrapped(head: str, width: int) -> list[str]:
    lines = textwrap.wrap(head, max(width, 1), break_long_words=False) or [""]
    return [line.replace(NO_BREAK, " ") for line in lines]
