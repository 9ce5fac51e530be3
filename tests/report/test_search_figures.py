"""What an attacker minimizes is drawn for each arm, beside both controls."""

from __future__ import annotations

from safesight.compare import SearchCurve
from safesight.report import render
from safesight.report.search_figures import SearchView
from tests.compare.test_adaptive import card
from tests.report.test_html import Page


def curve(against: str, size: float, steps: int = 3, random: float | None = 9.0) -> SearchCurve:
    median = [float(steps - number) for number in range(steps)]
    low, high = [each - 1 for each in median], [each + 1 for each in median]
    return SearchCurve(
        against=against, epsilon=size, n=7, median=median, low=low, high=high, random=random
    )


def test_a_figure_for_each_size_and_a_panel_for_each_arm() -> None:
    searches = [curve(arm, size) for arm in ("none", "sasa") for size in (16, 4)]
    small, large = SearchView.of(searches).figures
    assert ("4/255" in small.heading, "16/255" in large.heading) == (True, True)
    base, sasa = small.panels
    assert (base.title, sasa.title) == ("against the undefended model", "against sasa")
    assert (base.others, sasa.others) == ([], [base.curves[0].y])
    assert sasa.marks == [9.0]
    drawing = small.drawings[1]
    assert 0 < drawing.marks[0] < drawing.floor, "the control is inside the panel"


def test_a_search_of_another_length_is_not_drawn_over_this_one() -> None:
    (figure,) = SearchView.of([curve("none", 8, steps=50), curve("sasa", 8)]).figures
    assert figure.panels[1].others == []
    assert [bool(drawing.lines[0].dots) for drawing in figure.drawings] == [False, True]


def test_the_page_draws_them_below_the_table_of_attackers() -> None:
    searches = [curve("none", 8), curve("sasa", 8, random=None)]
    page = Page(render(card().model_copy(update={"searches": searches})))
    assert page.of("section", id="search-8")
    assert page.places_of("Horizontal: step.")
    assert len(page.of("polygon")) == 2
    assert not Page(render(card())).of("section", id="search-8")
