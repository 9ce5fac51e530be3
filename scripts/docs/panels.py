"""Panels of rates as plain SVG: shared by the figures that show a rate against a dose.

A panel has rates from 0 to 1 upwards, and doses to the right. Points are rates, bars their 95%
intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["LEFT", "PANEL", "TALL", "TOP", "Pen", "Tick", "axes", "dots", "legend", "line", "page"]

WIDTH, HEIGHT, LEFT, TOP, PANEL, TALL, GAP = 760, 330, 60, 56, 300, 200, 70
_INK, _FAINT = "#1f2933", "#616e7c"

Rate = Mapping[str, Any]
"""`value`, `low` and `high`."""


@dataclass(frozen=True)
class Pen:
    """How one curve is drawn."""

    name: str
    color: str
    dash: str = ""


@dataclass(frozen=True)
class Tick:
    """A dose: where it stands, 0 to 1, and its label."""

    at: float
    label: str
    anchor: str = "middle"


def page(spoken: str, panels: Sequence[Sequence[str]], pens: Sequence[Pen]) -> str:
    """The figure as SVG text.

    Args:
        spoken: The figure in words, for screen readers.
        panels: What is drawn in each panel, from left to right.
        pens: For the legend.
    """
    opened = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}" role="img">',
        f"<title>{escape(spoken)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    drawn = [part for panel in panels for part in panel]
    return "\n".join([*opened, *drawn, *legend(pens), "</svg>", ""])


def left_of(panel: int) -> int:
    """The left border of a panel."""
    return LEFT + panel * (PANEL + GAP)


def axes(panel: int, title: str, ticks: Sequence[Tick], caption: str) -> Iterator[str]:
    """The borders, ticks and texts of a panel."""
    left, bottom = left_of(panel), TOP + TALL
    yield f'<text x="{left}" y="28" font-weight="bold">{title}</text>'
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * TALL
        yield (
            f'<line x1="{left}" y1="{y:.1f}" x2="{left + PANEL}" y2="{y:.1f}" stroke="{_FAINT}" '
            'stroke-width="0.5"/>'
        )
        yield f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'
    for tick in ticks:
        x = left + tick.at * PANEL
        yield (
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="{tick.anchor}">{tick.label}</text>'
        )
    yield (
        f'<text x="{left + PANEL / 2:.1f}" y="{bottom + 36}" text-anchor="middle" '
        f'fill="{_FAINT}">{caption}</text>'
    )


def line(panel: int, pen: Pen, points: Sequence[tuple[float, float]]) -> str:
    """A curve through values; each point is a dose and a value, 0 to 1."""
    return _stroke(pen, " ".join("{:.1f},{:.1f}".format(*_place(panel, *each)) for each in points))


def dots(panel: int, pen: Pen, points: Sequence[tuple[float, Rate]]) -> Iterator[str]:
    """Rates with their intervals."""
    for at, rate in points:
        x, y = _place(panel, at, rate["value"])
        low, high = (_place(panel, at, rate[end])[1] for end in ("low", "high"))
        yield (
            f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" '
            f'stroke="{pen.color}" stroke-width="3" stroke-opacity="0.4"/>'
        )
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{pen.color}"/>'


def legend(pens: Sequence[Pen]) -> Iterator[str]:
    """A line and a name for every pen, along the bottom."""
    for index, pen in enumerate(pens):
        x = LEFT + index * (WIDTH - LEFT) // max(len(pens), 3)
        yield _stroke(pen, f"{x},{HEIGHT - 14} {x + 24},{HEIGHT - 14}")
        yield f'<text x="{x + 30}" y="{HEIGHT - 10}">{pen.name}</text>'


def _place(panel: int, at: float, share: float) -> tuple[float, float]:
    return left_of(panel) + at * PANEL, TOP + TALL * (1 - share)


def _stroke(pen: Pen, points: str) -> str:
    dash = f' stroke-dasharray="{pen.dash}"' if pen.dash else ""
    return f'<polyline points="{points}" fill="none" stroke="{pen.color}"{dash}/>'
