"""A look inside as a section of the report: there, closed, and of the model that answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safesight.compare import Scorecard
from safesight.errors import InputError
from safesight.report import read_layers, render, render_layers, write_report
from safesight.report.layer_figures import figures
from tests.report.fakes import answers, card
from tests.report.layer_fakes import MARKUP, report
from tests.report.test_html import LOADS, Page, scripts_that_may_run


def _card(identity: str) -> Scorecard:
    plain = card()
    provenance = plain.provenance.model_copy(update={"model_identity": identity})
    return plain.model_copy(update={"provenance": provenance})


@pytest.fixture(scope="module")
def text() -> str:
    fakes: Any = answers()
    return render(_card(report().identity), fakes, layers=report())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def _texts(page: Page, tag: str, inside: str) -> list[str]:
    """What stands in elements of one name within the element of an id."""
    return [
        data
        for data, path in page.texts
        if path[-1:] and path[-1][0] == tag and any(a.get("id") == inside for _, a in path)
    ]


def test_the_section_has_every_figure_with_its_caption(page: Page) -> None:
    drawn = figures(report())
    assert page.open == []
    assert _texts(page, "h2", "inside") == ["Inside the model"]
    assert _texts(page, "h3", "inside") == [figure.heading for figure in drawn]
    assert _texts(page, "figcaption", "inside") == [figure.caption for figure in drawn]
    assert page.of("a", href="#inside")


def test_its_ids_are_its_own(page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_it_draws_what_the_page_of_its_own_draws(page: Page) -> None:
    here, there = (
        [attrs.get("points") for tag, attrs in each.elements if tag in ("polyline", "polygon")]
        for each in (page, Page(render_layers(report())))
    )
    assert len(here) > 0
    assert here == there


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for tag, attrs in page.elements:
        for name in LOADS & attrs.keys():
            value = attrs[name] or ""
            assert value.startswith(("data:image/webp;base64,", "#")), (tag, name, value[:80])


def test_the_numbers_can_be_read_without_scripts(page: Page) -> None:
    for cell in ("0.45–0.55", "± 0.10", "+0.25", report().identity[:16]):
        assert page.places_of(cell)


def test_names_in_a_file_are_text_and_never_markup() -> None:
    named = report().model_copy(update={"model": MARKUP, "notes": [MARKUP]})
    text = render(card(), layers=named)
    assert MARKUP not in text
    assert Page(text).places_of(MARKUP)


def test_without_a_look_nothing_of_it_is_on_the_page() -> None:
    fakes: Any = answers()
    text = render(card(), fakes)
    page = Page(text)
    assert not page.of("section", id="inside")
    assert not page.of("a", href="#inside")
    assert len(scripts_that_may_run(page)) == 1
    # All else is the same with it and without: only what belongs to the section is added.
    added = Page(render(card(), fakes, layers=report()))
    before = [each for each in page.elements if each[0] != "meta"]
    left = iter([each for each in added.elements if each[0] != "meta"])
    assert all(each in left for each in before)


def test_a_look_at_another_model_is_refused_and_nothing_written(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    with pytest.raises(InputError, match=r"of 'toy' \(0123456789ab\).*\(ffff0000ffff\)"):
        write_report(target, _card("ffff0000" * 8), layers=report())
    assert list(tmp_path.iterdir()) == []


def test_logs_that_do_not_name_their_model_take_any_look() -> None:
    assert 'id="inside"' in render(_card(""), layers=report())


def test_a_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(report().model_dump_json(indent=2))
    assert read_layers(path) == report()


def _without(*names: str) -> dict[str, Any]:
    """The report as JSON, with one list shorter by its first entry."""
    raw: Any = report().model_dump(mode="json")
    inner = raw
    for name in names[:-1]:
        inner = inner[int(name) if name.isdigit() else name]
    last: Any = int(names[-1]) if names[-1].isdigit() else names[-1]
    inner[last] = inner[last][1:]
    found: dict[str, Any] = raw
    return found


_LONE = report().model_dump(mode="json")
_LONE["projections"].pop()  # the benign curve of a defense, whose harmful one is left


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"rows": []}', "model: Field required"),
        (card().model_dump_json(), "Field required"),
        (json.dumps(_without("gap")), "not every list has 2 entries"),
        (json.dumps(_without("lens", "1", "words")), "not every list has 2 entries"),
        (json.dumps(_without("separability")), "a measure, a form or a label is missing"),
        (json.dumps(_without("projections")), "a measure, a form or a label is missing"),
        (json.dumps(_LONE), "a measure, a form or a label is missing"),
        (json.dumps(_without("heads", "utility", "0")), "differ in shape"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(
    content: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"other\.json is not a layer report") as caught:
        read_layers(path)
    assert reason in str(caught.value)
    assert "safesight layers MODEL --json FILE" in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_layers(path)
