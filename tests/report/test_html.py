"""The page as a browser and a reader would take it: parsed, closed, veiled, escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from safesight.compare import Scorecard, scorecard
from safesight.errors import StorageError
from safesight.report import Beside, render, verdict_sentence, write_report
from safesight.report.tables import columns, outcomes, overall, rate_rows
from tests.compare.fake_answers import cell
from tests.house.source import ROOT
from tests.report.fakes import ATTACK, EARLIER, RECIPE, REQUEST, answers, card

VOID = {"meta", "br", "img", "input", "link", "hr"}
LOADS = {"src", "href", "srcset", "poster", "data", "action", "formaction"}


class Page(HTMLParser):
    """Elements with their attributes, the path to each piece of text, and whether tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, list[tuple[str, dict[str, str | None]]]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID and self.open[-1:] != [("svg", {})]:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1][0] == tag, (tag, [name for name, _ in self.open])
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append((data, list(self.open)))

    def of(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and all(attrs.get(k) == v for k, v in wanted.items())
        ]

    def places_of(self, text: str) -> list[list[dict[str, str | None]]]:
        """The attributes of all ancestors, for every place where a text stands."""
        return [
            [attrs for _, attrs in path]
            for data, path in self.texts
            if text in data and not any(tag == "script" for tag, _ in path)
        ]


def scripts_that_may_run(page: Page) -> list[str]:
    """The page's scripts; its policy names each of them, and lets no other run."""
    policy = page.of("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy is not None
    assert "default-src 'none'" in policy
    allowed = policy.split("script-src")[1].split(";")[0]
    scripts = [
        data
        for data, path in page.texts
        if path[-1:] and path[-1][0] == "script" and not path[-1][1].get("type")
    ]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert allowed.split() == ([f"'sha256-{each}'" for each in hashes] or ["'none'"])
    return scripts


@pytest.fixture(scope="module")
def text() -> str:
    fakes: Any = answers()
    return render(card(), fakes)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_it_parses_and_every_tag_is_closed(page: Page) -> None:
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_every_link_has_its_section_whatever_was_run() -> None:
    fakes: Any = answers()
    for defenses, labels in ((("none",), ("benign",)), (("none", "sasa"), ("harmful",))):
        some = [a for a in fakes if a.defense in defenses and a.label in labels]
        page = Page(render(scorecard(some), some))
        ids = {attrs.get("id") for _, attrs in page.elements}
        assert {str(link["href"])[1:] for link in page.of("a")} <= ids


def test_it_opens_with_the_verdict_in_one_sentence(page: Page) -> None:
    heading = "".join(data for data, path in page.texts if path[-1:] and path[-1][0] == "h1")
    assert heading == verdict_sentence(card())
    assert re.findall(r"\.(?:\s|$)", heading) == ["."]
    assert "sasa" in heading
    assert "75%" in heading
    assert "0%" in heading


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for tag, attrs in page.elements:
        for name in LOADS & attrs.keys():
            value = attrs[name] or ""
            assert value.startswith(("data:image/webp;base64,", "#")), (tag, name, value[:80])
        assert "url(" not in (attrs.get("style") or "")
    style = next(data for data, path in page.texts if path[-1:] and path[-1][0] == "style")
    assert "url(" not in style
    assert "@import" not in style
    assert not page.of("link")


def test_its_policy_lets_only_its_own_scripts_run(page: Page) -> None:
    assert len(scripts_that_may_run(page)) == 1


def test_answers_are_text_and_never_markup(text: str, page: Page) -> None:
    assert ATTACK not in text
    assert page.places_of(ATTACK)
    assert page.places_of("a cake & a <b>pie</b>")
    assert not page.of("img", src="x")
    assert not [attrs for _, attrs in page.elements if any(k.startswith("on") for k in attrs)]


@pytest.mark.parametrize("harmful", [RECIPE, REQUEST, EARLIER, ATTACK])
def test_harmful_content_is_veiled_until_clicked(page: Page, harmful: str) -> None:
    places = page.places_of(harmful)
    assert places
    for ancestors in places:
        veils = [attrs for attrs in ancestors if attrs.get("class") == "veil"]
        assert len(veils) == 1
        assert "data-veiled" in veils[0]
        content = next(a for a in ancestors if a.get("class") == "veil-content")
        assert content["aria-hidden"] == "true"
        assert "inert" in content


def test_every_veil_has_a_button_that_a_keyboard_reaches(page: Page) -> None:
    veils = page.of("div", **{"class": "veil"})
    buttons = page.of("button", **{"class": "veil-button"})
    contents = {attrs["id"] for attrs in page.of("div", **{"class": "veil-content"})}
    assert len(veils) == len(buttons) > 0
    for button in buttons:
        assert button["type"] == "button"
        assert button["aria-expanded"] == "false"
        assert button["aria-controls"] in contents
        assert "tabindex" not in button


def test_harmless_conversations_are_readable_at_once(page: Page) -> None:
    for ancestors in page.places_of("what is this?"):
        assert not [attrs for attrs in ancestors if attrs.get("class") == "veil"]


def test_removal_leaves_no_harmful_word_in_the_file() -> None:
    fakes: Any = answers()
    text = render(card(), fakes, redaction="remove")
    assert RECIPE not in text
    assert REQUEST not in text
    assert EARLIER not in text
    assert "alert(1)" not in text
    assert Page(text).of("div", **{"class": "veil"}) == []


def test_harm_that_a_judge_missed_is_removed_as_well() -> None:
    missed = "to avoid early ignition, mix it slowly and light the fuse."
    found: Any = [
        replace(answer, verdict="refused", answer=missed) if answer.verdict == "refused" else answer
        for answer in answers()
    ]
    assert missed not in render(card(), found, redaction="remove")
    found = [replace(answer, answer="i cannot help with that.") for answer in found]
    assert "i cannot help with that." in render(card(), found, redaction="remove")


def test_all_arms_of_a_sample_stand_side_by_side_with_their_scores(page: Page) -> None:
    cards = page.of("article")
    assert len(cards) == 12
    assert cards[0]["data-verdicts"].split()[0].startswith("none:")  # type: ignore[union-attr]
    assert page.places_of("sasa score 2.50 ≥ threshold 0.50")


def test_conversations_on_which_arms_differ_come_first(page: Page) -> None:
    differs = [a["data-differs"] for a in page.of("article") if a["data-task"] == "image_harm"]
    assert differs == sorted(differs, reverse=True)


def test_the_number_of_conversations_is_bounded() -> None:
    fakes: Any = answers()
    assert len(Page(render(card(), fakes, per_task=1)).of("article")) == 3
    assert not Page(render(card())).of("article")


def test_the_numbers_of_the_scorecard_are_on_the_page(page: Page) -> None:
    assert page.places_of("1.07×")
    assert page.places_of("against probe")
    assert page.places_of("1 invalid")


def test_numbers_are_text_and_none_is_left_to_a_hover(page: Page) -> None:
    """n, intervals, pairs and McNemar's test, for every rate and every change."""
    assert not [attrs for _, attrs in page.elements if "title" in attrs]
    words = " ".join(data for data, _ in page.texts)
    for cells in (columns(card()), overall(card())):
        for column in cells:
            assert f"n {column.n}" in words
        for _, row in rate_rows(card(), cells):
            assert all(cell is None or cell.interval in words for cell in row)
    shown = {(column.task, column.metric) for column in columns(card())}
    deltas = [delta for delta in card().deltas if (delta.task, delta.metric) in shown]
    assert len(deltas) > 5
    for delta in deltas:
        for text in (f"+{delta.gained} −{delta.lost} of {delta.n}", f"p = {delta.p_value:.2g}"):
            assert page.places_of(text)
    for _, arms in outcomes(card()):
        for arm in arms:
            assert all(page.places_of(f"{count} {verdict}") for verdict, count, _ in arm.parts)


def test_a_cell_with_another_n_than_its_column_says_so() -> None:
    fakes: Any = [one for one in answers() if (one.defense, one.sample_id) != ("probe", "vqa/3")]
    assert Page(render(scorecard(fakes))).places_of("n 3")


def _rows(page: Page, section: str) -> list[tuple[str, dict[str, str | None]]]:
    """Each row's name and attributes, in the tables of a section."""
    return [
        (data, path[-2][1])
        for data, path in page.texts
        if any(attrs.get("id") == section for _, attrs in path)
        and path[-1][0] == "th"
        and path[-1][1].get("scope") == "row"
    ]


def test_defenses_that_tie_with_the_best_are_all_seen_and_marked() -> None:
    names = [f"arm{index:02}" for index in range(20)]
    tied = names[3:6]
    fakes: Any = cell("h" * 40) + [
        answer
        for name in names
        for answer in cell("r" * 40 if name in tied else "h" * 20 + "r" * 20, defense=name)
    ]
    page = Page(render(scorecard(fakes)))
    for section in ("trade", "scorecard"):
        rows = _rows(page, section)
        assert [name for name, _ in rows] == ["undefended", *names]
        assert [name for name, attrs in rows if attrs.get("class") == "best"] == tied
    # A marker has a row to itself, so none can hide another.
    assert len(page.of("b")) == 2 * len(rows)


def test_every_plot_is_there_without_scripts(text: str) -> None:
    still = Page(re.sub(r"<script>.*?</script>", "", text, flags=re.S))
    assert [name for name, _ in _rows(still, "trade")] == ["undefended", "sasa", "probe"]
    assert "left:75.0%" in text
    assert not [attrs for attrs in still.of("section") if attrs.get("hidden") == ""]
    hidden = [data for data, path in still.texts if ("noscript", {}) in path and data.strip()]
    assert ".veil-button { display: none; }" in hidden[0]


def test_the_page_of_the_demo_is_small() -> None:
    demo = Scorecard.model_validate_json((ROOT / "docs/results/demo.json").read_text())
    assert len(demo.defenses) >= 18
    assert len(render(demo).encode()) < 400_000


def test_a_report_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_report(tmp_path / "deep" / "report.html", card())
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        write_report(tmp_path / "file" / "report.html", card())


def test_a_second_scorecard_stands_beside_the_first() -> None:
    second = Beside("After an attack", "Look at the words.", card())
    page = Page(render(card(), beside=[second]))
    assert page.open == []
    assert [each["id"] for each in page.of("section") if "beside" in str(each)] == ["beside-1"]
    assert page.of("a", href="#beside-1")
    assert page.places_of("Look at the words.")
    once, twice = (
        len(Page(text).of("tr", **{"class": "base"}))
        for text in (render(card()), render(card(), beside=[second]))
    )
    assert twice == once + 1


def test_broken_answers_are_marked_and_have_a_column() -> None:
    """Planted: two of three answers of an arm are broken."""
    given = [*cell("ooo", broken=False), *cell("ooh", defense="rmu")]
    given = [replace(a, broken=a.defense == "rmu" and a.sample_id != "s-2") for a in given]
    shown = Page(render(scorecard(given), given))
    marks = [path for text, path in shown.texts if text == "broken"]
    assert len([path for path in marks if path[-1][1].get("class") == "badge invalid"]) == 2
    assert "66.7%" in [text for text, _ in shown.texts]
    assert [column.axis for column in overall(scorecard(given))][-1] == "Broken"
