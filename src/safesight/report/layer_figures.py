"""The figures of a layer report: curves, heat maps, and how each was computed.

Arranges the numbers of a `LayerReport` and writes the captions; computes nothing.
`page/layers.js` draws the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from safesight.analysis import LayerReport
from safesight.analysis.results import SPECIFIC, Alignment, Band, Form, HeadMap, Lens, Projection

__all__ = ["FORM_WORDS", "Figure", "curve_name", "figures", "head_sentence"]

FORM_WORDS: dict[Form, str] = {
    "text": "in text",
    "object": "object in the picture",
    "word": "word in the picture",
}
_LOOKS: dict[Form, int] = {"text": 1, "object": 2, "word": 3}
"""Number of the color on the page."""
_FIRST_DEFENSE_LOOK, _LAST_LOOK = 4, 6
_ALIGNED = {"describe": "with the same picture, described", "text": "without the picture"}

Curve = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure: its heading, its message, its method, and its data."""

    key: str
    """Valid as an HTML id."""
    heading: str
    lead: str
    caption: str
    kind: Literal["lines", "heat"]
    y: str
    """Title of the vertical axis, or of the cell values of a heat map."""
    curves: list[Curve] = field(default_factory=list)
    """`{"name", "look", "dash", "y", "low", "high"}`, one value per layer."""
    cells: list[list[float]] = field(default_factory=list)
    """One row per layer, one cell per head."""
    marks: list[float] = field(default_factory=list)
    """Horizontal lines."""
    range: list[float] | None = None
    log: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """The data for the page's script; JSON values."""
        names = ("key", "kind", "y", "curves", "cells", "marks", "range", "log")
        return {name: getattr(self, name) for name in names}


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
        kind="lines",
        y="Area under the ROC curve",
        curves=[_banded(FORM_WORDS[s.form], _LOOKS[s.form], s.areas) for s in report.separability],
        marks=[0.5],
        range=[0.3, 1.03],
    )


def _dilution(report: LayerReport) -> Figure:
    n = report.projections[0].n
    defended = any(item.defense != "none" for item in report.projections)
    states = " Defended states come from the prefill of the defended generate." if defended else ""
    return Figure(
        key="dilution",
        heading="How much of text's signal a picture carries",
        lead=(
            "The distance between a solid curve and the dashed one of the same color separates "
            "harmful from benign. A defense that lifts both refuses more but sees no better."
        ),
        caption=(
            "Projection of the last-token state on the unsafe direction of text (difference of "
            "the means of harmful and benign text at that layer, unit length), in units of the "
            "distance between the two means: 0 is benign text, 1 harmful text. The direction is "
            f"from {report.n} requests per label of the fit split, the curves from others of "
            f"the test split, with the same verb and object in each form.{states} Bands: 95% "
            f"bootstrap of the mean, n = {n} per curve, seed {report.seed}."
        ),
        kind="lines",
        y="Projection, text = 1",
        curves=[_projection(item, report) for item in report.projections],
        marks=[0.0, 1.0],
    )


def _projection(item: Projection, report: LayerReport) -> Curve:
    defenses = list(dict.fromkeys(p.defense for p in report.projections if p.defense != "none"))
    look = _LOOKS[item.form]
    if item.defense != "none":
        room = _LAST_LOOK - _FIRST_DEFENSE_LOOK + 1
        look = _FIRST_DEFENSE_LOOK + defenses.index(item.defense) % room
    dash = "solid" if item.label == "harmful" else "dash"
    return _banded(curve_name(item), look, item.means, dash)


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
        kind="lines",
        y="Readable tokens (%)",
        curves=[
            _banded(FORM_WORDS[item.form], _LOOKS[item.form], item.readable, scale=100)
            for item in report.lens
        ],
        range=[0, 103],
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
        kind="lines",
        y="Rank of the object's word",
        curves=[_ranks(item) for item in report.lens],
        log=True,
    )


def _ranks(item: Lens) -> Curve:
    return _curve(
        FORM_WORDS[item.form], _LOOKS[item.form], (item.rank, item.rank_low, item.rank_high)
    )


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
        kind="lines",
        y="Cosine",
        curves=[_cosines(item, look) for look, item in enumerate(report.alignment, 1)],
    )


def _cosines(item: Alignment, look: int) -> Curve:
    pairs = list(zip(item.mean, item.sd, strict=True))
    low, high = [m - s for m, s in pairs], [m + s for m, s in pairs]
    return _curve(_ALIGNED[item.against], look, (item.mean, low, high))


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
            else "Red: silencing the head turns harmful requests more than picture questions."
        ),
        caption=(
            "Each head set to zero in turn before the output projection. Angle between the "
            f"leading left singular vectors {taken} (n x d, final block, last prompt token) with "
            "and without the head; harmful requests of all forms minus picture questions, in "
            f"degrees. n = {heads.n} prompts in each set, seed {report.seed}."
            + ("" if centred else f" {head_sentence(heads)}")
        ),
        kind="heat",
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
        kind="lines",
        y="Cosine",
        curves=[_curve("vector", 1, (shift.cosines, None, None))],
        marks=[0.0],
    )


def _banded(
    name: str, look: int, rows: Sequence[Band], dash: str = "solid", *, scale: float = 1
) -> Curve:
    columns = [[scale * getattr(b, part) for b in rows] for part in ("value", "low", "high")]
    return _curve(name, look, (columns[0], columns[1], columns[2]), dash)


def _curve(
    name: str,
    look: int,
    values: tuple[list[float], list[float] | None, list[float] | None],
    dash: str = "solid",
) -> Curve:
    y, low, high = values
    return {"name": name, "look": look, "dash": dash, "y": y, "low": low, "high": high}
