"""The page of a look inside: closed, escaped, captioned, and true to its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from safesight.analysis import LayerReport
from safesight.errors import StorageError
from safesight.report import layer_sentence, layer_table, render_layers, write_layers
from safesight.report.layer_figures import figures
from tests.report.layer_fakes import MARKUP, report
from tests.report.test_html import LOADS, Page, scripts_that_may_run


@pytest.fixture(scope="module")
def text() -> str:
    return render_layers(report())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_it_parses_and_ids_are_unique(page: Page) -> None:
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [str(attrs["href"])[1:] for attrs in page.of("a")]
    assert set(targets) <= set(ids)


def test_nothing_is_loaded_or_run(page: Page) -> None:
    for tag, attrs in page.elements:
        for name in LOADS & attrs.keys():
            assert str(attrs[name]).startswith("#"), (tag, name)
    assert not page.of("link")
    assert scripts_that_may_run(page) == []


def test_words_of_a_vocabulary_are_text_and_never_markup(text: str, page: Page) -> None:
    assert MARKUP not in text
    assert page.places_of(MARKUP)
    assert not page.of("img")


def test_every_figure_says_how_it_was_made_on_how_many_and_with_which_seed(page: Page) -> None:
    drawn = figures(report())
    assert len(page.of("figure")) == len(drawn) == 8
    captions = [data for data, path in page.texts if path[-1:] and path[-1][0] == "figcaption"]
    assert captions == [figure.caption for figure in drawn]
    for caption in captions:
        assert "seed 11" in caption
        assert any(count in caption for count in ("n = 7", "n = 14", "n = 6", "7 harmful", "7 req"))


def test_without_heads_and_vector_there_is_no_figure_of_them() -> None:
    keys = [figure.key for figure in figures(report(whole=False))]
    assert keys == ["separability", "dilution", "readable", "rank", "alignment"]


def test_the_figures_draw_the_numbers_of_the_report() -> None:
    drawn = {figure.key: figure for figure in figures(report())}
    first = drawn["separability"].curves[0]
    assert first.y == pytest.approx([0.5, 0.9])
    assert first.low == pytest.approx([0.45, 0.85])
    assert first.high == pytest.approx([0.55, 0.95])
    assert drawn["readable"].curves[0].y == [20.0, 80.0]
    assert drawn["shift"].curves[0].y == [-0.5, 0.25]
    assert drawn["heads"].cells[0] == pytest.approx([5.729578, 0.0])
    assert drawn["heads"].cells[1] == []
    assert [drawn["heads"].heat(value) for value in drawn["heads"].cells[0]] == [40, 0]


def _with_defenses(count: int) -> LayerReport:
    first = report()
    added = [
        item.model_copy(update={"defense": f"defense{index}"})
        for index in range(count)
        for item in first.projections
        if item.defense == "none"
    ]
    return first.model_copy(update={"projections": [*first.projections, *added]})


def test_no_two_curves_of_a_figure_look_alike() -> None:
    """A panel and a color tell a curve from all others, however many defenses there are."""
    for figure in figures(_with_defenses(10)):
        looks = [(p.title, curve.look) for p in figure.panels for curve in p.curves]
        assert len(set(looks)) == len(looks)
        names = [curve.name for curve in figure.curves]
        assert len(set(names)) == len(names)
    page = Page(render_layers(_with_defenses(10)))
    assert page.places_of("word in the picture, defense9")


def test_every_figure_is_drawn_and_its_numbers_are_text(page: Page) -> None:
    for figure in figures(report()):
        inside = [
            (data, path)
            for data, path in page.texts
            if any(attrs.get("id") == figure.key for _, attrs in path)
        ]
        words = {data for data, path in inside if any(tag == "table" for tag, _ in path)}
        assert words >= {curve.name for curve in figure.curves}
        for curve in figure.curves:
            assert f"{curve.y[1]:.{figure.digits}f}" in words
            if curve.low and curve.high:
                low, high = curve.low[1], curve.high[1]
                assert f"{low:.{figure.digits}f} to {high:.{figure.digits}f}" in words
        assert words >= {f"{cell:.{figure.digits}f}" for row in figure.cells for cell in row}
    panels = sum(len(figure.panels) for figure in figures(report()))
    assert len(page.of("svg", role="img")) == panels == len(page.of("div", **{"class": "panel"}))


@pytest.mark.parametrize(
    ("token", "shown"),
    [("Ġ", "␣"), ("▁", "␣"), ("Ċ", "↵"), (" ", "␣"), ("\n", "↵"), ("Ġno", "␣no"), ("é", "é")],
)
def test_tokens_are_shown_as_text(token: str, shown: str) -> None:
    lens = [item.model_copy(update={"words": [[token], ["a"]]}) for item in report().lens]
    page = Page(render_layers(report().model_copy(update={"lens": lens})))
    codes = [data for data, path in page.texts if path[-1:] and path[-1][0] == "code"]
    assert codes[:3] == [shown] * 3


def test_the_sentence_names_the_best_layer_and_what_is_left_there() -> None:
    sentence = layer_sentence(report())
    assert "after layer 1 (area 0.90, 0.85 to 0.95)" in sentence
    assert "25% of the text's unsafe signal" in sentence


def test_the_table_has_every_measure_a_layer() -> None:
    columns, rows = layer_table(report())
    assert [row[0][0] for row in rows] == ["0", "1"]
    cells = dict(zip(columns, rows[1], strict=True))
    assert cells["probe area", "object"] == ("0.90", "0.85–0.95")
    assert cells["text's signal left", "text"] == ("1.00", "")
    assert cells["text's signal left", "object, safety prompt"] == ("0.25", "")
    assert cells["readable", "word"] == ("80%", "")
    assert cells["object's rank", "text"] == ("3", "")
    assert cells["cosine", "described"] == ("0.50", "± 0.10")
    assert cells["cosine", "vector"] == ("+0.25", "")


def test_the_numbers_can_be_read_without_scripts(page: Page) -> None:
    for cell in ("0.45–0.55", "± 0.10", "+0.25", "80%"):
        assert page.places_of(cell)


def test_the_page_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_layers(tmp_path / "deep" / "layers.html", report())
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        write_layers(tmp_path / "file" / "layers.html", report())
