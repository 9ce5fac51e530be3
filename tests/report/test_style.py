"""The style sheet: text has contrast in every scheme, and nothing is sized or shown too late."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from safesight.report import render
from safesight.report.layer_figures import STRONGEST
from safesight.report.pictures import picture_size
from safesight.report.risk import draw_risk
from scripts.docs import pairs
from tests import tiny
from tests.contracts.defense_helpers import fitted, sample
from tests.house.source import ROOT
from tests.report.fakes import card
from tests.report.test_html import Page

CSS = (resources.files("safesight.report") / "page" / "report.css").read_text(encoding="utf-8")
GROUNDS = ("page", "wash", "best")
VERDICTS = ("refused", "harmless", "invalid", "harmful")

Colors = dict[str, str]


def _scheme(name: str) -> Colors:
    """The colors of a scheme: those of :root, and what its media query changes."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.S)
    light, dark, paper = (dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in blocks)
    return {"light": light, "dark": {**light, **dark}, "print": {**light, **paper}}[name]


def _channels(color: str) -> list[float]:
    bare = color.lstrip("#")
    wide = "".join(2 * letter for letter in bare) if len(bare) == 3 else bare
    return [int(wide[i : i + 2], 16) / 255 for i in (0, 2, 4)]


def _contrast(one: list[float], other: list[float]) -> float:
    """As WCAG 2 defines it."""

    def luminance(channels: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark", "print"])
def test_text_has_enough_contrast(name: str) -> None:
    colors = {key: _channels(value) for key, value in _scheme(name).items()}
    inks = set(re.findall(r"(?<![-\w])(?:color|fill): var\(--([\w-]+)", CSS)) - {"k", "page"}
    assert inks >= {"ink", "soft", "link", "good", "bad", "invalid", "harmful"}
    pairs = [(ink, ground) for ink in {*inks, "refused"} for ground in GROUNDS]
    pairs += [("page", verdict) for verdict in VERDICTS]  # the words on a bar
    low = {pair: _contrast(colors[pair[0]], colors[pair[1]]) for pair in pairs}
    assert {pair: round(value, 2) for pair, value in low.items() if value < 4.5} == {}


@pytest.mark.parametrize("name", ["light", "dark", "print"])
def test_numbers_on_a_heat_map_have_enough_contrast(name: str) -> None:
    colors = {key: _channels(value) for key, value in _scheme(name).items()}
    share = STRONGEST / 100
    for tint in re.findall(r"--tint: var\(--(\w+)\)", CSS):
        mixed = [
            share * t + (1 - share) * p for t, p in zip(colors[tint], colors["page"], strict=True)
        ]
        assert _contrast(colors["ink"], mixed) >= 4.5


@pytest.mark.parametrize(
    "figure", sorted((ROOT / "docs/figures").glob("*.svg")), ids=lambda path: path.name
)
def test_the_figures_of_the_documentation_have_enough_contrast(figure: Path) -> None:
    inks = set(re.findall(r'<(?:text|svg)[^>]*fill="(#\w+)"', figure.read_text(encoding="utf-8")))
    assert inks
    white = [1.0, 1.0, 1.0]
    assert [ink for ink in inks if _contrast(_channels(ink), white) < 4.5] == []


def test_the_numbers_on_a_figure_of_pairs_have_enough_contrast() -> None:
    grounds = [pairs.color(rate / 10) for rate in range(11)]
    assert min(_contrast(_channels(pairs.INK), _channels(each)) for each in grounds) >= 4.5


def test_nothing_waits_for_a_scroll() -> None:
    """A place that is sized only when it comes into view moves every link below it, and what is
    loaded only then is missing in print."""
    screen = re.sub(r"details::details-content \{.*?\}", "", CSS)
    assert "content-visibility" not in screen
    maps = draw_risk(
        tiny.vlm("llava"), fitted("rai", "llava"), [("vqa", sample(2, "benign", True))]
    )
    page = Page(render(card(), risk=maps))
    pictures = page.of("img")
    assert len(pictures) == 2
    for picture in pictures:
        assert "loading" not in picture
        size = picture_size(str(picture["src"]))
        assert (picture["width"], picture["height"]) == tuple(map(str, size))
    # With these attributes a width alone would distort.
    for rule in re.findall(r"^.*img \{[^}]*width:[^}]*\}", CSS, flags=re.M):
        assert "height: auto" in rule


def test_what_is_unseen_in_a_wide_table_does_not_widen_the_page() -> None:
    """An absolute place is cut off by the nearest positioned ancestor only."""
    assert re.search(r"^\.unseen \{ position: absolute", CSS, flags=re.M)
    assert re.search(r"^\.scroll \{ position: relative; overflow-x: auto", CSS, flags=re.M)


def test_what_is_closed_on_screen_is_open_in_print() -> None:
    paper = CSS[CSS.index("@media print") :]
    assert re.search(r"details::details-content \{[^}]*content-visibility: visible", paper)
    assert "max-height: none" in paper
    assert "overflow: visible" in paper


@pytest.mark.parametrize("uri", ["", "https://example.org/x.webp", "data:image/webp;base64,AAAA"])
def test_what_is_no_picture_has_no_size(uri: str) -> None:
    with pytest.raises(ValueError, match="not a WebP picture"):
        picture_size(uri)
