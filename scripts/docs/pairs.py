"""The figure of SASA's pairs: attacks that each one lets through, beside those of the plain probe.

A panel for each model of the results `sasa` and `sasa_smol`. A cell is a pair of blocks, the fused
one to the right, the safety one upwards; the framed cells of the diagonal are the probe at a block.
Of a deep model every few blocks have their pairs measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["INK", "LEFT", "SIDE", "SIZE", "TOP", "color", "render"]

SIZE = "128"
"""Prompts in the fits that are shown."""
LEFT, TOP, SIDE, GAP = 60, 52, 320, 60
_WIDTH, _HEIGHT = LEFT + 2 * SIDE + GAP + 20, TOP + SIDE + 56
INK, _FAINT = "#1f2933", "#616e7c"
_LIGHT, _DARK = (240, 244, 248), (96, 156, 210)

_Cells = Mapping[tuple[int, int], float]


def render(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The figure as SVG text.

    Args:
        tables: By model, the rates of attacks that a probe at every block ("block 3") and SASA at
            every pair ("pair 3 4") miss, as the benchmark's table `every` has them.
    """
    found = {model: _cells(rows) for model, rows in tables.items()}
    opened = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}" role="img">',
        f"<title>{escape(_spoken(found))}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    drawn = [
        part
        for index, each in enumerate(found.items())
        for part in _panel(LEFT + index * (SIDE + GAP), *each)
    ]
    return "\n".join([*opened, *drawn, "</svg>", ""])


def _cells(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], float]:
    """The rate of each pair that lies on the grid of blocks, and of the probe at (block, block)."""
    found: dict[tuple[int, int], float] = {}
    for row in rows:
        kind, *blocks = row["layers"].split()
        if row["task"] == SIZE and kind in ("block", "pair"):
            found[int(blocks[0]), int(blocks[-1])] = row["value"]
    first = sorted({f for s, f in found if s == 0})
    return {(s, f): rate for (s, f), rate in found.items() if s in first and f in first}


def _panel(left: int, model: str, cells: _Cells) -> Iterator[str]:
    blocks = sorted({block for pair in cells for block in pair})
    side, bottom = SIDE / len(blocks), TOP + SIDE
    yield f'<text x="{left}" y="28" font-weight="bold">{escape(model)}</text>'
    for (s, f), rate in sorted(cells.items()):
        x, y = left + blocks.index(f) * side, bottom - (blocks.index(s) + 1) * side
        frame = f' stroke="{INK}" stroke-width="1.5"' if s == f else ""
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{side - 2:.1f}" height="{side - 2:.1f}" '
            f'fill="{color(rate)}"{frame}/>'
        )
        yield (
            f'<text x="{x + side / 2 - 1:.1f}" y="{y + side / 2 + 3:.1f}" font-size="10" '
            f'text-anchor="middle">{100 * rate:.0f}</text>'
        )
    for place, block in enumerate(blocks):
        middle = (place + 0.5) * side
        yield (
            f'<text x="{left + middle:.1f}" y="{bottom + 16}" text-anchor="middle">{block}</text>'
        )
        yield (
            f'<text x="{left - 8}" y="{bottom - middle + 4:.1f}" text-anchor="end">{block}</text>'
        )
    caption = "fused block to the right, safety block upwards"
    yield (
        f'<text x="{left + SIDE / 2}" y="{bottom + 36}" text-anchor="middle" fill="{_FAINT}">'
        f"{caption}</text>"
    )


def color(rate: float) -> str:
    """The ground of a cell; the numbers on it are in `INK`."""
    mixed = (round(low + rate * (high - low)) for low, high in zip(_LIGHT, _DARK, strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _spoken(found: Mapping[str, _Cells]) -> str:
    """The figure in words, for screen readers."""
    said = []
    for model, cells in found.items():
        for kind, rates in (
            ("the probe", [rate for (s, f), rate in cells.items() if s == f]),
            ("SASA", [rate for (s, f), rate in cells.items() if s != f]),
        ):
            said.append(f"{kind} on {model} {min(rates):.0%} to {max(rates):.0%}")
    return f"Percent of attacks missed after fits on {SIZE} prompts: {', '.join(said)}"
