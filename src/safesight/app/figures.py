"""The figures as coordinates: a score beside its threshold, and a curve over the layers.

Only geometry and the words beside it; `drawing` writes both as SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from safesight.analysis.results import Form
from safesight.app.asking import Curve, Score
from safesight.app.references import Cloud
from safesight.grammar import UNDEFENDED

__all__ = ["CurveFigure", "Gauge", "Line", "curve_figure", "gauge", "shown_name"]

_KNOWN: dict[Form, str] = {"object": "with a picture", "text": "in writing", "word": "in letters"}
_LEFT, _RIGHT = 70.0, 352.0
"""Where a gauge begins and ends, in SVG units."""
_TICKS = 5


def shown_name(arm: str) -> str:
    """The name of an arm on the page.

    Example:
        >>> shown_name("none"), shown_name("safety_prompt+sasa")
        ('undefended', 'safety_prompt + sasa')
    """
    if arm == UNDEFENDED:
        return "undefended"
    return arm.replace("+", " + ")


@dataclass(frozen=True)
class Gauge:
    """A detector's score, its threshold and the scores of known requests, from left to right."""

    threshold: float
    score: float
    harmful: tuple[float, ...]
    benign: tuple[float, ...]
    sentence: str
    """The same in words."""
    limit: str
    """The value of the threshold."""


def gauge(score: Score, cloud: Cloud | None) -> Gauge | None:
    """The figure of a score; None if the detector could not judge."""
    if score.score is None:
        return None
    harmful, benign = (cloud.harmful, cloud.benign) if cloud else ((), ())
    values = [score.score, score.threshold, *harmful, *benign]
    low, high = min(values), max(values)
    pad = 0.06 * ((high - low) or 1.0)
    scale = _Scale(low - pad, high + pad, _LEFT, _RIGHT)
    return Gauge(
        threshold=scale.at(score.threshold),
        score=scale.at(score.score),
        harmful=tuple(map(scale.at, harmful)),
        benign=tuple(map(scale.at, benign)),
        sentence=_gauge_sentence(score, cloud),
        limit=_number(score.threshold),
    )


def _gauge_sentence(score: Score, cloud: Cloud | None) -> str:
    assert score.score is not None
    said = (
        f"Score {_number(score.score)} is {'at or above' if score.refused else 'below'} the "
        f"threshold {_number(score.threshold)}: {'refused' if score.refused else 'let through'}."
    )
    if cloud is None or not (cloud.harmful and cloud.benign):
        return said
    caught, wrong = (
        f"{sum(value >= score.threshold for value in values)} of {len(values)}"
        for values in (cloud.harmful, cloud.benign)
    )
    return (
        f"{said} Of known requests {_KNOWN[cloud.form]} it refuses {caught} harmful ones and "
        f"{wrong} harmless ones."
    )


@dataclass(frozen=True)
class Line:
    """One line of the curve figure."""

    name: str
    style: str
    """A class of the style sheet."""
    points: str
    dots: tuple[tuple[float, float], ...]
    values: tuple[str, ...]


@dataclass(frozen=True)
class CurveFigure:
    """How harmful each layer finds the question."""

    lines: tuple[Line, ...]
    layers: tuple[int, ...]
    across: tuple[tuple[float, int], ...]
    up: tuple[tuple[float, str], ...]
    zero: float
    one: float
    explanation: str
    sentence: str
    """What the figure shows, in words."""
    drawn: tuple[Line, ...]
    """The lines from the lowest to the highest: a thin one shows on a broad one like it."""
    width: float = 400
    height: float = 232
    left: float = 34
    right: float = 392
    top: float = 10
    floor: float = 194


def curve_figure(curve: Curve) -> CurveFigure:
    """The figure of a curve."""
    levels = curve.levels
    known = _KNOWN[levels.form]
    rows = [
        (shown_name(arm), f"asked-{i}", row) for i, (arm, row) in enumerate(curve.lines.items())
    ]
    if levels.form != "text":  # for text they are 1 and 0, which are marked anyway
        rows += [
            (f"known harmful requests {known}", "harmful", levels.harmful),
            (f"known harmless requests {known}", "benign", levels.benign),
        ]
    values = [value for _, _, row in rows for value in row]
    frame = CurveFigure
    pad = 0.08
    up = _Scale(min([0.0, *values]) - pad, max([1.0, *values]) + pad, frame.floor, frame.top)
    first, last = levels.layers[0], levels.layers[-1]
    across = _Scale(first, last, frame.left + 10, frame.right - 10)
    lines = tuple(
        Line(
            name,
            style,
            " ".join(f"{x},{y}" for x, y in _places(across, up, levels.layers, row)),
            _places(across, up, levels.layers, row),
            tuple(map(_number, row)),
        )
        for name, style, row in rows
    )
    asked = len(curve.lines)
    return CurveFigure(
        lines=lines,
        drawn=(*lines[asked:], *lines[:asked]),
        layers=levels.layers,
        across=tuple((across.at(layer), layer) for layer in _some(levels.layers)),
        up=tuple((up.at(value), f"{value:g}") for value in up.ticks()),
        zero=up.at(0),
        one=up.at(1),
        explanation=_explanation(curve),
        sentence=_curve_sentence(curve),
    )


def _explanation(curve: Curve) -> str:
    return (
        "How harmful the question looks after each layer, before a word is answered: 0 is the "
        f"average of {curve.n} harmless written requests that come with safesight, 1 that of "
        f"{curve.n} harmful ones."
    )


def _curve_sentence(curve: Curve) -> str:
    ends = ", ".join(f"{shown_name(arm)} {_number(row[-1])}" for arm, row in curve.lines.items())
    levels = curve.levels
    said = f"At layer {levels.layers[-1]}: {ends}"
    if levels.form == "text":
        return f"{said}."
    return (
        f"{said}; known requests {_KNOWN[levels.form]} have {_number(levels.harmful[-1])} if "
        f"harmful and {_number(levels.benign[-1])} if harmless."
    )


@dataclass(frozen=True)
class _Scale:
    """Values from `low` to `high` on places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value."""
        if self.high == self.low:
            return round((self.start + self.end) / 2, 1)
        part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Multiples of 1, 2 or 5 times a power of ten, at most `_TICKS`."""
        least = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(least))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= least)
        first = math.ceil(self.low / step)
        return [round(i * step, 6) + 0 for i in range(first, math.floor(self.high / step) + 1)]


def _places(
    across: _Scale, up: _Scale, layers: Sequence[int], row: Iterable[float]
) -> tuple[tuple[float, float], ...]:
    return tuple((across.at(x), up.at(y)) for x, y in zip(layers, row, strict=True))


def _some(layers: Sequence[int]) -> Sequence[int]:
    """At most nine layers for the axis."""
    return layers[:: math.ceil(len(layers) / 9)]


def _number(value: float) -> str:
    """Two decimals, or three where two would say nothing.

    Example:
        >>> _number(-0.2289), _number(0.0873), _number(0)
        ('−0.23', '0.087', '0.00')
    """
    digits = 3 if 0 < abs(value) < 0.1 else 2
    return f"{value:.{digits}f}".replace("-", "−")
