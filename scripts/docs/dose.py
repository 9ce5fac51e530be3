"""The figure of the safety mirage: the effect of a word, by its correlation with the label.

Two panels of the result `mirage`: attack success on harmful requests and refusal of benign ones,
as they are and attacked, of refusal fine-tuning at every rho, over all seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scripts.docs.panels import Pen, Tick, axes, dots, line, page

__all__ = ["CURVES", "PANELS", "render"]

CLOSE = 0.08
_ARM = "sft, rho "

CURVES = {
    "": Pen("as it is", "#0f609b"),
    "+one_word": Pen("one-word attack", "#cf1124"),
    "+one_word_paraphrase": Pen("paraphrase without the word", "#b44d12", "4 3"),
}
"""What is put behind the name of a task, and how it is drawn."""
PANELS = (
    ("harm", "attack success, harmful requests"),
    ("benign", "refusal, benign requests"),
)
_CAPTION = "rho, correlation of wording and label in training"

_Doses = Sequence[tuple[float, Mapping[str, Any]]]


def render(summary: Sequence[Mapping[str, Any]]) -> str:
    """The figure as SVG text."""
    doses = sorted(
        (float(row["arm"].removeprefix(_ARM)), row)
        for row in summary
        if row["arm"].startswith(_ARM)
    )
    panels = [list(_panel(index, *panel, doses)) for index, panel in enumerate(PANELS)]
    return page(_spoken(doses), panels, list(CURVES.values()))


def _panel(index: int, task: str, title: str, doses: _Doses) -> Iterator[str]:
    yield from axes(index, title, _ticks([rho for rho, _ in doses]), _CAPTION)
    for suffix, pen in CURVES.items():
        points = [(rho, row[task + suffix]) for rho, row in doses]
        yield line(index, pen, [(rho, rate["value"]) for rho, rate in points])
        yield from dots(index, pen, points)


def _ticks(doses: Sequence[float]) -> list[Tick]:
    """A label that the next one would overlap ends at its tick."""
    following = [*doses[1:], math.inf]
    return [
        Tick(rho, f"{rho:g}", "end" if after - rho < CLOSE else "middle")
        for rho, after in zip(doses, following, strict=True)
    ]


def _spoken(doses: _Doses) -> str:
    """The figure in words, for screen readers."""
    said = []
    for task, title in PANELS:
        rates = ", ".join(
            f"{row[f'{task}+one_word']['value']:.0%} at {rho:g}" for rho, row in doses
        )
        said.append(f"{title} after the one-word attack, by rho: {rates}")
    return "; ".join(said)
