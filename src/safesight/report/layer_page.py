"""The page of a look inside: a sentence, figures, the same numbers as a table, the method.

Reads a `LayerReport`, writes text; measures nothing. The template is `page/layers.html.j2`.
"""

from __future__ import annotations

from pathlib import Path

from safesight.analysis import LayerReport
from safesight.analysis.results import FORMS, Band, Form, Projection
from safesight.compare.folder import write_text
from safesight.report.closed import assemble
from safesight.report.layer_figures import FORM_WORDS, figures

__all__ = ["layer_sentence", "layer_table", "render_layers", "write_layers"]


def layer_sentence(report: LayerReport) -> str:
    """The main finding in one sentence: what can be read, and what arrives where text refuses."""
    areas = next(item.areas for item in report.separability if item.form == "object")
    best = max(range(report.layers), key=lambda layer: areas[layer].value)
    area = areas[best]
    kept = _kept(report, "object", best)
    return (
        f"On {report.model}, a linear probe reads harm in drawn objects best after layer {best} "
        f"(area {area.value:.2f}, {area.low:.2f} to {area.high:.2f}); "
        f"there {_percent(kept)} of the text's unsafe signal is left."
    )


def layer_table(report: LayerReport) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """All numbers, a row a layer.

    Returns:
        The columns as (group, title), and a cell for each in every row. The first column is
        the layer.
    """
    columns: list[tuple[str, str]] = [("", "layer")]
    values: list[list[str]] = [[str(layer) for layer in range(report.layers)]]
    for area in report.separability:
        columns.append(("probe area", FORM_WORDS[area.form]))
        values.append([_band(band, 2) for band in area.areas])
    for title, item in _projections(report):
        columns.append(("signal of text left", title))
        values.append([f"{item[layer]:.2f}" for layer in range(report.layers)])
    for lens in report.lens:
        columns.append(("readable", FORM_WORDS[lens.form]))
        values.append([_percent(band.value) for band in lens.readable])
    for lens in report.lens:
        columns.append(("rank of the object", FORM_WORDS[lens.form]))
        values.append([f"{rank:.0f}" for rank in lens.rank])
    for one in report.alignment:
        columns.append(("cosine", "described" if one.against == "describe" else "words alone"))
        values.append([f"{m:.2f} ± {s:.2f}" for m, s in zip(one.mean, one.sd, strict=True)])
    if report.shift is not None:
        columns.append(("cosine", "vector, unsafe direction"))
        values.append([f"{value:+.2f}" for value in report.shift.cosines])
    return columns, [list(row) for row in zip(*values, strict=True)]


def render_layers(report: LayerReport) -> str:
    """The page as HTML text."""
    drawn = figures(report)
    columns, rows = layer_table(report)
    return assemble(
        "layers.html.j2",
        style="report.css",
        script="layers.js",
        plot=[figure.data for figure in drawn],
        report=report,
        sentence=layer_sentence(report),
        figures=drawn,
        columns=columns,
        rows=rows,
        form_words=FORM_WORDS,
    )


def write_layers(path: str | Path, report: LayerReport) -> Path:
    """Render the page and write it as a whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    return write_text(Path(path), render_layers(report))


def _projections(report: LayerReport) -> list[tuple[str, list[float]]]:
    """What is left of text's signal in each form and under each defense: title and layers."""
    defenses = dict.fromkeys(item.defense for item in report.projections)
    found: list[tuple[str, list[float]]] = []
    for defense in defenses:
        for form in FORMS:
            if _curve(report, form, "harmful", defense) is not None:
                title = FORM_WORDS[form] if defense == "none" else defense.replace("_", " ")
                layers = range(report.layers)
                found.append((title, [_kept(report, form, layer, defense) for layer in layers]))
    return found


def _kept(report: LayerReport, form: Form, layer: int, defense: str = "none") -> float:
    """Harmful minus benign projection: the share of text's own distance, which is 1."""
    harmful = _curve(report, form, "harmful", defense)
    benign = _curve(report, form, "benign", defense)
    assert harmful is not None
    assert benign is not None
    return harmful.means[layer].value - benign.means[layer].value


def _curve(report: LayerReport, form: Form, label: str, defense: str) -> Projection | None:
    wanted = (form, label, defense)
    found = (p for p in report.projections if (p.form, p.label, p.defense) == wanted)
    return next(found, None)


def _band(band: Band, digits: int) -> str:
    return f"{band.value:.{digits}f} ({band.low:.{digits}f}–{band.high:.{digits}f})"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"
