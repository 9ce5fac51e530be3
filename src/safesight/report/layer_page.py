"""The page of a layer report: a sentence, figures, the same numbers as a table, the method.

Reads a `LayerReport` and writes text; measures nothing. The template is `page/layers.html.j2`;
`page/layer_parts.html.j2` is shared with a scorecard's report, and `LayerView` fills both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from safesight.analysis import LayerReport
from safesight.analysis.results import FORMS, Band, Form, Projection
from safesight.files import write_text
from safesight.report.closed import assemble
from safesight.report.layer_figures import FORM_WORDS, Figure, figures
from safesight.report.tokens import written

__all__ = [
    "LayerView",
    "layer_sentence",
    "layer_table",
    "render_layers",
    "write_layers",
]

Cell = tuple[str, str]
"""A value and its interval or spread (may be empty), ready to print."""


@dataclass(frozen=True)
class LayerView:
    """A layer report for the templates, as a page or as a section of another page."""

    report: LayerReport
    sentence: str
    figures: list[Figure]
    columns: list[tuple[str, str]]
    rows: list[list[Cell]]

    @classmethod
    def of(cls, report: LayerReport) -> LayerView:
        """Prepare all text and layout."""
        return cls(report, layer_sentence(report), figures(report), *layer_table(report))

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings above the columns, and how many each spans; none above the layer's own."""
        found = groupby(group for group, _ in self.columns[1:])
        return [(group, len(list(run))) for group, run in found]


def layer_sentence(report: LayerReport) -> str:
    """The main finding in one sentence: where harm is best read, and how much signal is left."""
    areas = next(item.areas for item in report.separability if item.form == "object")
    best = max(range(report.layers), key=lambda layer: areas[layer].value)
    area = areas[best]
    interval = f"{area.value:.2f}, {area.low:.2f} to {area.high:.2f}"
    if area.low <= 0.5:
        return (
            f"On {report.model}, no layer is shown to tell harm in drawn objects from its absence: "
            f"the best linear probe, after layer {best}, may be chance (area {interval})."
        )
    kept = _kept(report, "object", best)
    return (
        f"On {report.model}, a linear probe reads harm in drawn objects best after layer {best} "
        f"(area {interval}); "
        f"there {_percent(kept)} of the text's unsafe signal is left."
    )


def layer_table(report: LayerReport) -> tuple[list[tuple[str, str]], list[list[Cell]]]:
    """All numbers except those of heads, one row per layer.

    Returns:
        The columns as (group, title), and the cells of every row. The first column is the layer.
    """
    layers = range(report.layers)
    table: dict[tuple[str, str], list[Cell]] = {("", "layer"): [(str(i), "") for i in layers]}
    for area in report.separability:
        table["probe area", area.form] = [_band(band) for band in area.areas]
    for title, kept in _signals(report):
        table["text's signal left", title] = [(f"{round(value, 2) + 0:.2f}", "") for value in kept]
    for lens in report.lens:
        table["readable", lens.form] = [(_percent(band.value), "") for band in lens.readable]
    for lens in report.lens:
        table["object's rank", lens.form] = [(f"{rank:.0f}", "") for rank in lens.rank]
    for one in report.alignment:
        title = "described" if one.against == "describe" else "no picture"
        cells = zip(one.mean, one.sd, strict=True)
        table["cosine", title] = [(f"{mean:.2f}", f"± {sd:.2f}") for mean, sd in cells]
    if report.shift is not None:
        table["cosine", "vector"] = [(f"{value:+.2f}", "") for value in report.shift.cosines]
    return list(table), [list(row) for row in zip(*table.values(), strict=True)]


def render_layers(report: LayerReport) -> str:
    """The page as HTML text."""
    view = LayerView.of(report)
    return assemble(
        "layers.html.j2",
        style="report.css",
        look=view,
        form_words=FORM_WORDS,
        written=written,
    )


def write_layers(path: str | Path, report: LayerReport) -> Path:
    """Render the page and write it atomically.

    Raises:
        StorageError: the file cannot be written.
    """
    return write_text(Path(path), render_layers(report))


def _signals(report: LayerReport) -> Iterator[tuple[str, list[float]]]:
    """The part of text's signal that is left, per form and defense: title and values by layer."""
    for defense in dict.fromkeys(item.defense for item in report.projections):
        for form in FORMS:
            if _curve(report, form, "harmful", defense) is not None:
                title = form if defense == "none" else f"{form}, {defense.replace('_', ' ')}"
                yield title, [_kept(report, form, i, defense) for i in range(report.layers)]


def _kept(report: LayerReport, form: Form, layer: int, defense: str = "none") -> float:
    """Harmful minus benign projection, as a fraction of the distance in text, which is 1."""
    harmful = _curve(report, form, "harmful", defense)
    benign = _curve(report, form, "benign", defense)
    assert harmful is not None
    assert benign is not None
    return harmful.means[layer].value - benign.means[layer].value


def _curve(report: LayerReport, form: Form, label: str, defense: str) -> Projection | None:
    wanted = (form, label, defense)
    found = (p for p in report.projections if (p.form, p.label, p.defense) == wanted)
    return next(found, None)


def _band(band: Band) -> Cell:
    return f"{band.value:.2f}", f"{band.low:.2f}–{band.high:.2f}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"
