"""What attacks by gradient minimized, step by step: a figure for each size of the change.

Arranges the curves of a scorecard and writes the captions; computes nothing. A panel is an arm; the
undefended model is in each of them in gray, and a dotted line is a move in a random direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safesight.compare import SearchCurve
from safesight.grammar import UNDEFENDED
from safesight.report.layer_figures import Figure
from safesight.report.line_plot import Curve, Panel

__all__ = ["SearchView"]

_DOTS = 25
"""The most steps of which each has a dot."""


@dataclass(frozen=True)
class SearchView:
    """The searches of a scorecard for the template of layer figures."""

    figures: list[Figure]

    @classmethod
    def of(cls, searches: Sequence[SearchCurve]) -> SearchView:
        """A figure for each size, from the smallest."""
        sizes = sorted({each.epsilon for each in searches})
        return cls([_figure([s for s in searches if s.epsilon == size]) for size in sizes])


def _figure(searches: list[SearchCurve]) -> Figure:
    size = searches[0].epsilon
    base = next((each for each in searches if each.against == UNDEFENDED), None)
    most = max(each.n for each in searches)
    return Figure(
        key=f"search-{size:g}".replace(".", "-"),
        heading=f"The search at {size:g}/255, step by step",
        lead="A curve that still falls at its last step would fall further with more steps.",
        caption=(
            "What the attacker minimizes: how unlikely the wanted answer is, and what a detector "
            "or an edit of the arm adds to that, in units of its value on the picture as it is. So "
            "levels of arms with different defenses cannot be compared, but how far each falls "
            "can. The best picture up to each step counts, which the search keeps. Median over "
            f"{most} picture{'' if most == 1 else 's'}; bands are from the smallest to the "
            "largest. Dotted: the median with every value moved as far at random. That the loss "
            "falls does not mean that the attack succeeds; the table above says that."
        ),
        y="least loss so far",
        x="step",
        panels=[_panel(each, base) for each in searches],
        gray="the search against the undefended model",
    )


def _panel(search: SearchCurve, base: SearchCurve | None) -> Panel:
    name = _arm(search.against)
    curve = Curve(
        name=name,
        y=search.median,
        low=search.low,
        high=search.high,
        dotted=len(search.median) <= _DOTS,
    )
    compared = base is not None and base is not search and len(base.median) == len(search.median)
    return Panel(
        title=f"against {name}",
        curves=[curve],
        others=[base.median] if base is not None and compared else [],
        marks=[] if search.random is None else [search.random],
    )


def _arm(name: str) -> str:
    return "the undefended model" if name == UNDEFENDED else name.replace("_", " ")
