"""The figure of the dial: what the recipe put in, and what a method adds.

Two panels of the result `dial`: attack success and picture questions answered right, by the cap on
the cosine of visual tokens with their words, for the undefended model and three defenses. A dot is
one training seed, a line goes through their mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from scripts.docs.panels import Pen, Tick, axes, dots, line, page

__all__ = ["CURVES", "PANELS", "render"]

CURVES = {
    "none": Pen("undefended", "#616e7c"),
    "rai": Pen("RAI", "#cf1124"),
    "sasa": Pen("SASA", "#0f609b"),
    "probe": Pen("probe", "#b44d12", "4 3"),
}
PANELS = (("attacks", "attack success"), ("vqa", "picture questions answered right"))
_CAPTION = "cap on the cosine of a visual token with its word, in training"

_Effects = Sequence[Mapping[str, Any]]


def render(effects: _Effects) -> str:
    """The figure as SVG text.

    Args:
        effects: One rate per cap, training seed, arm (`task`) and metric.
    """
    caps = list(dict.fromkeys(each["cap"] for each in effects))
    panels = [list(_panel(index, *panel, caps, effects)) for index, panel in enumerate(PANELS)]
    return page(_spoken(caps, effects), panels, list(CURVES.values()))


def _panel(
    index: int, metric: str, title: str, caps: Sequence[str], effects: _Effects
) -> Iterator[str]:
    places = {cap: (place + 0.5) / len(caps) for place, cap in enumerate(caps)}
    yield from axes(index, title, [Tick(at, cap) for cap, at in places.items()], _CAPTION)
    for arm, pen in CURVES.items():
        found = {cap: _rates(effects, cap, arm, metric) for cap in caps}
        means = [(places[cap], fmean(r["value"] for r in rates)) for cap, rates in found.items()]
        yield line(index, pen, means)
        yield from dots(index, pen, [(places[cap], r) for cap, some in found.items() for r in some])


def _rates(effects: _Effects, cap: str, arm: str, metric: str) -> list[Mapping[str, Any]]:
    wanted = {"cap": cap, "task": arm, "metric": metric}
    return [each for each in effects if wanted.items() <= each.items()]


def _spoken(caps: Sequence[str], effects: _Effects) -> str:
    """The figure in words, for screen readers."""
    said = []
    for arm, pen in CURVES.items():
        rates = ", ".join(
            f"{fmean(r['value'] for r in _rates(effects, cap, arm, 'attacks')):.0%} at {cap}"
            for cap in caps
        )
        said.append(f"{pen.name}: {rates}")
    return f"attack success by the cap on the cosine; {'; '.join(said)}"
