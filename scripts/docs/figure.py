"""The README's figure: four axes side by side, one row per defense, drawn as plain SVG.

A dot is the value and a bar its 95% interval; the dashed line is the undefended model. The SVG is
hand-written so that it is small, diffable and readable on any background.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from safesight.compare import Scorecard

WIDTH, LEFT, GAP, PANEL, TOP, ROW = 860, 130, 30, 150, 62, 30
_INK, _FAINT, _DOT, _BASE = "#1f2933", "#616e7c", "#0f609b", "#cf1124"


@dataclass(frozen=True)
class Point:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """One axis: a title, which way is better, and one point per defense."""

    title: str
    better: str
    points: dict[str, Point]
    top: float
    """Right end of the scale; the left end is 0."""
    percent: bool = True

    def at(self, value: float) -> float:
        return max(0.0, min(value / self.top, 1.0)) * PANEL

    def label(self, value: float) -> str:
        return f"{value:.1%}" if self.percent else f"{value:.2f}x"


def render(card: Scorecard) -> str:
    """The figure as SVG text."""
    panels = _panels(card)
    height = TOP + ROW * len(card.defenses) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}" role="img">',
        f"<title>{escape(_summary(card))}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for index, defense in enumerate(card.defenses):
        y = TOP + ROW * index + ROW / 2
        name = "undefended" if defense == "none" else defense
        parts.append(f'<text x="{LEFT - 14}" y="{y + 4:.1f}" text-anchor="end">{name}</text>')
    for index, panel in enumerate(panels):
        parts += _drawn(panel, card.defenses, LEFT + index * (PANEL + GAP))
    parts.append(
        f'<text x="{LEFT}" y="{height - 10}" fill="{_FAINT}" font-size="11">'
        "dot: value; bar: 95% interval; dashed: undefended</text>"
    )
    return "\n".join([*parts, "</svg>", ""])


def _panels(card: Scorecard) -> list[Panel]:
    def rates(metric: str) -> dict[str, Point]:
        rows = {d: card.row(d, "all", metric) for d in card.defenses}
        return {
            d: Point(r.value, r.low, r.high)
            for d, r in rows.items()
            if r is not None and r.value is not None
        }

    times = {
        cost.defense: Point(
            cost.answer_ratio,
            cost.answer_ratio if cost.answer_low is None else cost.answer_low,
            cost.answer_ratio if cost.answer_high is None else cost.answer_high,
        )
        for cost in card.overhead
    }
    times[card.defenses[0]] = Point(1.0, 1.0, 1.0)
    slowest = max(point.high for point in times.values())
    return [
        Panel("attack success", "less is better", rates("attack_success_rate"), 1.0),
        Panel("over-refusal", "less is better", rates("over_refusal_rate"), 1.0),
        Panel("utility", "more is better", rates("utility"), 1.0),
        Panel("answer time", "less is better", times, max(2.0, slowest), percent=False),
    ]


def _drawn(panel: Panel, defenses: list[str], left: int) -> Iterator[str]:
    bottom = TOP + ROW * len(defenses)
    yield f'<text x="{left}" y="24" font-weight="bold">{panel.title}</text>'
    yield f'<text x="{left}" y="42" fill="{_FAINT}" font-size="11">{panel.better}</text>'
    yield f'<line x1="{left}" y1="{TOP}" x2="{left}" y2="{bottom}" stroke="{_FAINT}"/>'
    base = panel.points.get(defenses[0])
    if base is not None:
        x = left + panel.at(base.value)
        yield (
            f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" '
            f'stroke="{_BASE}" stroke-dasharray="3 3" stroke-width="1"/>'
        )
    for index, defense in enumerate(defenses):
        point = panel.points.get(defense)
        if point is not None:
            y = TOP + ROW * index + ROW / 2
            color = _BASE if index == 0 else _DOT
            yield from _point(panel, point, left, y, color)


def _point(panel: Panel, point: Point, left: int, y: float, color: str) -> Iterator[str]:
    low, mid, high = (left + panel.at(v) for v in (point.low, point.value, point.high))
    yield (
        f'<line x1="{low:.1f}" y1="{y:.1f}" x2="{high:.1f}" y2="{y:.1f}" '
        f'stroke="{color}" stroke-width="3" stroke-opacity="0.4"/>'
    )
    yield f'<circle cx="{mid:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
    near_end = mid > left + PANEL - 52
    x, anchor = (low - 7, "end") if near_end else (high + 7, "start")
    yield (
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}" font-size="11">'
        f"{panel.label(point.value)}</text>"
    )


def _summary(card: Scorecard) -> str:
    """The attack success of every defense in words, for screen readers."""
    rows = ((d, card.row(d, "all", "attack_success_rate")) for d in card.defenses)
    shown = ", ".join(f"{d} {row.value:.1%}" for d, row in rows if row and row.value is not None)
    return f"Attack success over all harmful tasks: {shown}"
