"""Curves over the layers of a model, or over steps, as coordinates of a small drawing.

Each panel is drawn by itself, so that no curve hides another, and all panels of a figure share
their scales. Only geometry is computed here; `page/layer_parts.html.j2` writes it as SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Curve", "Drawing", "Line", "Look", "Panel", "Scale", "draw_panels"]

_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 38
_PAD = 0.05
"""Room above and below the curves, as a part of their height."""

Look = Literal["plain", "harmful", "benign"]
"""What a curve is about, which its color and dashes show."""


@dataclass(frozen=True)
class Curve:
    """One value per layer or step, with its interval where there is one."""

    name: str
    y: list[float]
    low: list[float] | None = None
    high: list[float] | None = None
    look: Look = "plain"
    dotted: bool = True
    """Whether each value has a dot; where there are many, dots hide the line."""


@dataclass(frozen=True)
class Panel:
    """One drawing of a figure."""

    title: str
    curves: list[Curve]
    others: list[list[float]] = field(default_factory=list)
    """Curves of other panels, drawn in gray for comparison."""
    marks: list[float] = field(default_factory=list)
    """Horizontal lines of this panel alone."""


@dataclass(frozen=True)
class Line:
    """A curve as SVG coordinates."""

    look: Look
    points: str
    band: str
    """The outline of the interval; empty without one."""
    dots: list[tuple[float, float]]


@dataclass(frozen=True)
class Drawing:
    """A panel as SVG coordinates."""

    title: str
    lines: list[Line]
    others: list[str]
    marks: list[float]
    across: list[tuple[float, str]]
    """Horizontal places with the number of the layer or step."""
    up: list[tuple[float, str]]
    """Vertical places with their value."""
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _WIDTH - _RIGHT
    floor: int = _HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Scale:
    """The vertical axis: values to places. A logarithmic one has its smallest value on top."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def of(cls, values: Iterable[float], *, log: bool = False) -> Scale:
        """A scale with room for all the values."""
        found = [math.log10(max(value, 1e-9)) if log else value for value in values]
        low, high = min(found), max(found)
        pad = _PAD * ((high - low) or 1.0)
        return cls(low - pad, high + pad, log)

    def at(self, value: float) -> float:
        """The vertical place of a value, in SVG units from the top."""
        spot = math.log10(max(value, 1e-9)) if self.log else value
        part = (spot - self.low) / (self.high - self.low)
        part = part if self.log else 1 - part
        return round(_TOP + part * (_HEIGHT - _TOP - _BOTTOM), 1)

    def ticks(self) -> list[float]:
        """Round values within the scale, at most six.

        Example:
            >>> Scale(-0.1, 1.1).ticks(), Scale(0, 3.1, log=True).ticks()
            ([0.0, 0.5, 1.0], [1.0, 10.0, 100.0, 1000.0])
        """
        if not self.log:
            return _even(self.low, self.high)
        found = [s * 10.0**p for p in range(9) for s in (1, 3)]
        inside = [v for v in found if self.low <= math.log10(v) <= self.high]
        if len(inside) < 2:
            return _even(10**self.low, 10**self.high)
        return inside if len(inside) <= 6 else inside[::2]


def draw_panels(
    panels: Sequence[Panel],
    *,
    marks: Sequence[float] = (),
    span: Sequence[float] = (),
    log: bool = False,
) -> list[Drawing]:
    """The panels on one scale.

    Args:
        panels: What to draw.
        marks: Values of horizontal lines in all panels.
        span: Values that the scale includes whatever the curves do.
        log: Whether the scale is logarithmic, with 1 on top.
    """
    curves = [curve for panel in panels for curve in panel.curves]
    values = [v for c in curves for row in (c.y, c.low or [], c.high or []) for v in row]
    own = [value for panel in panels for value in panel.marks]
    scale = Scale.of([*values, *own, *marks, *span], log=log)
    return [_drawing(panel, scale, [*marks, *panel.marks]) for panel in panels]


def _drawing(panel: Panel, scale: Scale, marks: Sequence[float]) -> Drawing:
    layers = len(panel.curves[0].y)
    step = math.ceil(layers / 8)
    return Drawing(
        title=panel.title,
        lines=[_line(curve, scale) for curve in panel.curves],
        others=[_path(scale, row) for row in panel.others],
        marks=[scale.at(value) for value in marks],
        across=[(_across(i, layers), str(i)) for i in range(0, layers, step)],
        up=[(scale.at(value), f"{value:g}") for value in scale.ticks()],
    )


def _line(curve: Curve, scale: Scale) -> Line:
    places = _places(scale, curve.y)
    band = ""
    if curve.low is not None and curve.high is not None:
        outline = _places(scale, curve.low) + _places(scale, curve.high)[::-1]
        band = " ".join(f"{x},{y}" for x, y in outline)
    return Line(curve.look, _path(scale, curve.y), band, places if curve.dotted else [])


def _path(scale: Scale, row: Sequence[float]) -> str:
    return " ".join(f"{x},{y}" for x, y in _places(scale, row))


def _places(scale: Scale, row: Sequence[float]) -> list[tuple[float, float]]:
    return [(_across(i, len(row)), scale.at(value)) for i, value in enumerate(row)]


def _across(layer: int, layers: int) -> float:
    """The horizontal place of a layer or step; a single one is in the middle."""
    part = 0.5 if layers == 1 else layer / (layers - 1)
    inset = 8
    return round(_LEFT + inset + part * (_WIDTH - _LEFT - _RIGHT - 2 * inset), 1)


def _even(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at most six."""
    least = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * s for s in (1, 2, 5, 10) if power * s >= least * (1 - 1e-9))
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
