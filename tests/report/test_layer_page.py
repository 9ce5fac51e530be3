"""The page of a look inside: closed, escaped, captioned, and true to its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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


def test_nothing_is_loaded_from_anywhere(text: str, page: Page) -> None:
    for tag, attrs in page.elements:
        for name in LOADS & attrs.keys():
            assert str(attrs[name]).startswith("#"), (tag, name)
    assert not page.of("link")
    assert text.count("plotly.js v") == 1
    assert len(scripts_that_may_run(page)) == 2


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


def test_the_plots_hold_the_numbers_of_the_report(page: Page) -> None:
    island = next(
        d for d, path in page.texts if path[-1:] and path[-1][1].get("id") == "layer-data"
    )
    plots: dict[str, Any] = {plot["key"]: plot for plot in json.loads(island)}
    first = plots["separability"]["curves"][0]
    for key, wanted in (("y", [0.5, 0.9]), ("low", [0.45, 0.85]), ("high", [0.55, 0.95])):
        assert first[key] == pytest.approx(wanted)
    names = [curve["name"] for curve in plots["dilution"]["curves"]]
    assert len(set(names)) == 8
    assert "harmful, object in the picture, safety prompt" in names
    dashes = {curve["name"].split(",")[0]: curve["dash"] for curve in plots["dilution"]["curves"]}
    assert dashes == {"harmful": "solid", "benign": "dash"}
    assert plots["heads"]["cells"][0] == pytest.approx([5.729578, 0.0])
    assert plots["heads"]["cells"][1] == []
    assert plots["readable"]["curves"][0]["y"] == [20.0, 80.0]
    assert plots["shift"]["curves"][0]["y"] == [-0.5, 0.25]


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
