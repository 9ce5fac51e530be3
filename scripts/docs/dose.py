"""The figure of the safety mirage: the effect of a word, by its correlation with the label.

Two panels of the result `mirage`, drawn as plain SVG: attack success on harmful requests and
refusal of benign ones, as they are and attacked, of refusal fine-tuning at every rho. Points are
rates over all seeds, bars their 95% intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, PANEL, TALL, GAP = 760, 330, 60, 56, 300, 200, 70
CLOSE = 0.08
_INK, _FAINT = "#1f2933", "#616e7c"
_ARM = "sft, rho "


@dataclass(frozen=True)
class Curve:
    """One kind of question."""

    suffix: str
    name: str
    color: str
    dash: str = ""


CURVES = (
    Curve("", "as it is", "#0f609b"),
    Curve("+one_word", "one-word attack", "#cf1124"),
    Curve("+one_word_paraphrase", "paraphrase without the word", "#b44d12", "4 3"),
)
PANELS = (
    ("harm", "attack success, harmful requests"),
    ("benign", "refusal, benign requests"),
)


def render(summary: Sequence[Mapping[str, Any]]) -> str:
    """The figure as SVG text."""
    doses = sorted(
        (float(row["arm"].removeprefix(_ARM)), row)
        for row in summary
        if row["arm"].startswith(_ARM)
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}" role="img">',
        f"<title>{escape(_spoken(doses))}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for index, (task, title) in enumerate(PANELS):
        left = LEFT + index * (PANEL + GAP)
        parts += _axes(title, left, [rho for rho, _ in doses])
        for curve in CURVES:
            points = [(rho, row[task + curve.suffix]) for rho, row in doses]
            parts += _drawn(curve, points, left)
    for index, curve in enumerate(CURVES):
        x = LEFT + index * 190
        parts.append(_stroke(curve, f"{x},{HEIGHT - 14} {x + 24},{HEIGHT - 14}"))
        parts.append(f'<text x="{x + 30}" y="{HEIGHT - 10}">{curve.name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _axes(title: str, left: int, doses: Sequence[float]) -> Iterator[str]:
    bottom = TOP + TALL
    yield f'<text x="{left}" y="28" font-weight="bold">{title}</text>'
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * TALL
        yield (
            f'<line x1="{left}" y1="{y:.1f}" x2="{left + PANEL}" y2="{y:.1f}" stroke="{_FAINT}" '
            'stroke-width="0.5"/>'
        )
        yield f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'
    for rho, following in zip(doses, [*doses[1:], math.inf], strict=True):
        x = left + rho * PANEL
        anchor = "end" if following - rho < CLOSE else "middle"  # or the next label overlaps
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="{anchor}">{rho:g}</text>'
    yield (
        f'<text x="{left + PANEL / 2:.1f}" y="{bottom + 36}" text-anchor="middle" '
        f'fill="{_FAINT}">rho, correlation of wording and label in training</text>'
    )


def _drawn(
    curve: Curve, points: Sequence[tuple[float, Mapping[str, float]]], left: int
) -> Iterator[str]:
    def at(rho: float, share: float) -> tuple[float, float]:
        return left + rho * PANEL, TOP + TALL * (1 - share)

    places = [at(rho, rate["value"]) for rho, rate in points]
    yield _stroke(curve, " ".join(f"{x:.1f},{y:.1f}" for x, y in places))
    for (rho, rate), (x, y) in zip(points, places, strict=True):
        low, high = at(rho, rate["low"])[1], at(rho, rate["high"])[1]
        yield (
            f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" '
            f'stroke="{curve.color}" stroke-width="3" stroke-opacity="0.4"/>'
        )
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{curve.color}"/>'


def _stroke(curve: Curve, points: str) -> str:
    dash = f' stroke-dasharray="{curve.dash}"' if curve.dash else ""
    return f'<polyline points="{points}" fill="none" stroke="{curve.color}"{dash}/>'


def _spoken(doses: Sequence[tuple[float, Mapping[str, Any]]]) -> str:
    """The figure in words, for screen readers."""
    said = []
    for task, title in PANELS:
        rates = ", ".join(
            f"{row[f'{task}+one_word']['value']:.0%} at {rho:g}" for rho, row in doses
        )
        said.append(f"{title} after the one-word attack, by rho: {rates}")
    return "; ".join(said)
