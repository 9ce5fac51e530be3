"""The figures of a layer report: curves, heat maps, and how each was computed.

Arranges the numbers of a `LayerReport` and writes the captions; computes nothing.
`line_plot` draws the curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from safesight.analysis import LayerReport
from safesight.analysis.results import SPECIFIC, Alignment, Band, Form, HeadMap, Lens, Projection
from safesight.report.line_plot import Curve, Drawing, Look, Panel, draw_panels

__all__ = ["FORM_WORDS", "STRONGEST", "Figure", "curve_name", "figures", "head_sentence"]

FORM_WORDS: dict[Form, str] = {
    "text": "in text",
    "object": "object in the picture",
    "word": "word in the picture",
}
STRONGEST = 40
"""Percent of color in the strongest cell of a heat map: text on it stays readable."""

_ALIGNED = {"describe": "with the same picture, described", "text": "without the picture"}


@dataclass(frozen=True)
class Figure:
    """One figure: its heading, its message, its method, and its panels or its cells."""

    key: str
    """Valid as an HTML id."""
    heading: str
    lead: str
    caption: str
    y: str
    """What the vertical axis or the cells of a heat map show."""
    x: str = "layer"
    """What the horizontal axis counts."""
    panels: list[Panel] = field(default_factory=list)
    cells: list[list[float]] = field(default_factory=list)
    """A heat map: one row per layer, one cell per head."""
    marks: list[float] = field(default_factory=list)
    """Horizontal lines."""
    span: list[float] = field(default_factory=list)
    """Values that the axis always includes."""
    log: bool = False
    gray: str = "the other panels"
    """What the gray curves are."""
    digits: int = 2
    """Decimals in the table of the figure's numbers."""

    @property
    def drawings(self) -> list[Drawing]:
        """The panels as coordinates, all on one scale."""
        return draw_panels(self.panels, marks=self.marks, span=self.span, log=self.log)

    @property
    def curves(self) -> list[Curve]:
        """All curves, for the table; what tells them apart is in their names."""
        return [curve for panel in self.panels for curve in panel.curves]

    @property
    def compared(self) -> bool:
        """Whether panels show each other's curves in gray."""
        return any(panel.others for panel in self.panels)

    @property
    def labelled(self) -> bool:
        """Whether curves differ in label, harmful or benign."""
        return any(curve.look != "plain" for curve in self.curves)

    @property
    def heads(self) -> int:
        """Columns of the heat map."""
        return max(map(len, self.cells), default=0)

    def heat(self, value: float) -> int:
        """How much color a cell has, in percent: STRONGEST for the value farthest from 0."""
        reach = max((abs(cell) for row in self.cells for cell in row), default=0.0)
        return round(STRONGEST * abs(value) / reach) if reach else 0


def figures(report: LayerReport) -> list[Figure]:
    """All figures for which the report has numbers, in page order."""
    found = [_separability(report), _dilution(report), _readable(report), _rank(report)]
    found.append(_alignment(report))
    if report.heads is not None:
        found += [_heads(report, centred=False), _heads(report, centred=True)]
    if report.shift is not None:
        found.append(_shift(report))
    return found


def curve_name(item: Projection) -> str:
    """The display name of a projection's curve.

    Example:
        >>> curve_name(Projection(form="text", label="benign", defense="none", means=[], n=1))
        'benign, in text'
    """
    words = f"{item.label}, {FORM_WORDS[item.form]}"
    return words if item.defense == "none" else f"{words}, {item.defense.replace('_', ' ')}"


def head_sentence(heads: HeadMap) -> str:
    """The heads that matter to harmful requests but not to picture questions, as layer.head."""
    found = ", ".join(f"{layer}.{head}" for layer, head in heads.specific())
    return (
        f"Among the {SPECIFIC} heads that turn harmful requests most, and not among the "
        f"{SPECIFIC} that turn picture questions most (layer.head): {found or 'none'}."
    )


def _separability(report: LayerReport) -> Figure:
    first = report.separability[0]
    unseen = " The folds share no object, so memorized words do not help."
    return Figure(
        key="separability",
        heading="Where harm can be read",
        lead="A high area means that harm can be read at a layer, not that the model acts on it.",
        caption=(
            "Area under the ROC curve of a logistic regression on the states after each block at "
            f"the last prompt token, {first.folds}-fold cross-validated; pairs are compared "
            f"within a fold.{unseen if first.grouped else ''} Bands: 95% percentile bootstrap "
            f"over requests, Newcombe's interval where the separation is perfect. "
            f"{first.harmful} harmful and {first.benign} benign requests in each form, "
            f"seed {report.seed}. 0.5 is chance."
        ),
        y="Area under the ROC curve",
        panels=_apart([_banded(FORM_WORDS[s.form], s.areas) for s in report.separability]),
        marks=[0.5],
        span=[0.5, 1.0],
    )


def _dilution(report: LayerReport) -> Figure:
    n = report.projections[0].n
    defended = any(item.defense != "none" for item in report.projections)
    states = " Defended states come from the prefill of the defended generate." if defended else ""
    return Figure(
        key="dilution",
        heading="How much of text's signal a picture carries",
        lead=(
            "The distance between the two curves of a panel separates harmful from benign. "
            "A defense that lifts both refuses more but sees no better."
        ),
        caption=(
            "Projection of the last-token state on the unsafe direction of text (difference of "
            "the means of harmful and benign text at that layer, unit length), in units of the "
            "distance between the two means: 0 is benign text, 1 harmful text. The direction is "
            f"from {report.n} requests per label of the fit split, the curves from others of "
            f"the test split, with the same verb and object in each form.{states} Bands: 95% "
            f"bootstrap of the mean, n = {n} per curve, seed {report.seed}."
        ),
        y="Projection, text = 1",
        panels=_projections(report),
        gray="the same requests, undefended",
        marks=[0.0, 1.0],
    )


def _projections(report: LayerReport) -> list[Panel]:
    """A panel per form and defense; behind a defended one, the same form undefended."""
    panels: dict[tuple[Form, str], list[Projection]] = {}
    for item in report.projections:
        panels.setdefault((item.form, item.defense), []).append(item)
    return [
        Panel(
            FORM_WORDS[form] + ("" if defense == "none" else f", {defense.replace('_', ' ')}"),
            [_banded(curve_name(item), item.means, item.label) for item in items],
            []
            if defense == "none"
            else [[band.value for band in item.means] for item in panels.get((form, "none"), [])],
        )
        for (form, defense), items in panels.items()
    ]


def _readable(report: LayerReport) -> Figure:
    return Figure(
        key="readable",
        heading="Where states turn into words",
        lead="Each layer's state, sent straight to the language head.",
        caption=(
            "Logit lens, head(norm(h)) at the last prompt token: share of the five likeliest "
            "tokens that contain a letter or digit and are not special tokens. A vocabulary of "
            "mostly readable tokens has a high share by chance. Bands: 95% bootstrap of the mean, "
            f"n = {report.lens[0].n} requests per curve (harmful and benign), seed {report.seed}."
        ),
        y="Readable tokens (%)",
        panels=_apart(
            [_banded(FORM_WORDS[item.form], item.readable, scale=100) for item in report.lens]
        ),
        span=[0, 100],
        digits=0,
    )


def _rank(report: LayerReport) -> Figure:
    return Figure(
        key="rank",
        heading="Where the object is on the tip of the tongue",
        lead="Higher is likelier. The answer need not begin with the object.",
        caption=(
            "Logit lens: rank of the right object's word among all tokens (its first token, with "
            "or without a leading space, whichever is likelier); 1 is the likeliest. Median with "
            f"quartiles, n = {report.lens[0].n} requests per curve (harmful and benign), "
            f"seed {report.seed}."
        ),
        y="Rank of the object's word",
        panels=_apart([_ranks(item) for item in report.lens]),
        log=True,
        digits=0,
    )


def _ranks(item: Lens) -> Curve:
    return Curve(FORM_WORDS[item.form], item.rank, item.rank_low, item.rank_high)


def _alignment(report: LayerReport) -> Figure:
    return Figure(
        key="alignment",
        heading="Where picture and words become one",
        lead="A curve falls where the omitted part begins to matter.",
        caption=(
            "Cosine of the last-token state of a request about a drawn object with that of the "
            f"same picture and “{report.instruction}”, and with that of the same words without "
            "the picture. Mean and one standard deviation over samples, "
            f"n = {report.alignment[0].n} (harmful and benign), seed {report.seed}. The residual "
            "states of any two prompts are somewhat similar: compare layers, not levels."
        ),
        y="Cosine",
        panels=_apart([_cosines(item) for item in report.alignment]),
    )


def _cosines(item: Alignment) -> Curve:
    pairs = list(zip(item.mean, item.sd, strict=True))
    low, high = [m - s for m, s in pairs], [m + s for m, s in pairs]
    return Curve(_ALIGNED[item.against], item.mean, low, high)


def _heads(report: LayerReport, *, centred: bool) -> Figure:
    heads = report.heads
    assert heads is not None
    rows = heads.difference(centred=centred)
    taken = "after subtracting the mean state" if centred else "of the raw states"
    return Figure(
        key="heads-centred" if centred else "heads",
        heading="Heads that carry safety" + (", mean state subtracted" if centred else ""),
        lead=(
            "The same, without the part that all prompts share."
            if centred
            else "Red: silencing the head turns harmful requests more than picture questions. "
            "Blue: it turns them less."
        ),
        caption=(
            "Each head set to zero in turn before the output projection. Angle between the "
            f"leading left singular vectors {taken} (n x d, final block, last prompt token) with "
            "and without the head; harmful requests of all forms minus picture questions, in "
            f"degrees. n = {heads.n} prompts in each set, seed {report.seed}."
            + ("" if centred else f" {head_sentence(heads)}")
        ),
        y="safety minus utility (degrees)",
        cells=[[round(math.degrees(value), 6) for value in row] for row in rows],
    )


def _shift(report: LayerReport) -> Figure:
    shift = report.shift
    assert shift is not None
    return Figure(
        key="shift",
        heading="Does the vector point where refusals do?",
        lead="Two random directions have a cosine near 0.",
        caption=(
            f"Cosine of the vector of {shift.source or 'the given file'} with the unsafe "
            f"direction of text, layer by layer. The direction is from {report.n} requests per "
            f"label of the fit split, seed {report.seed}."
        ),
        y="Cosine",
        panels=[Panel("vector", [Curve("vector", shift.cosines)])],
        marks=[0.0],
    )


def _apart(curves: list[Curve]) -> list[Panel]:
    """Each curve in a panel of its own, with the others behind it."""
    return [
        Panel(curve.name, [curve], [other.y for other in curves if other is not curve])
        for curve in curves
    ]


def _banded(name: str, rows: Sequence[Band], look: Look = "plain", *, scale: float = 1) -> Curve:
    value, low, high = (
        [scale * getattr(b, part) for b in rows] for part in ("value", "low", "high")
    )
    return Curve(name, value, low, high, look)
