"""The figures: places computed by hand, the words beside them, and text that stays text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from safesight.analysis.risk_map import RiskMap
from safesight.app.asking import Curve, Look, Reply, Score
from safesight.app.drawing import answers_html, error_html, examples_html, head_html, start_html
from safesight.app.examples import Example
from safesight.app.figures import curve_figure, gauge
from safesight.app.references import Cloud, Levels

CLOUD = Cloud(harmful=(0.0, 2.0, 4.0), benign=(-4.0, -2.0, 1.5), form="object")
LEVELS = Levels(layers=(2, 3, 5), harmful=(0.5, 0.6, 0.5), benign=(0.1, 0.1, 0.2), form="object")
CURVE = Curve(LEVELS, {"none": (0.4, 0.5, 0.6), "rai": (0.9, 1.0, 1.1)}, n=3)
SCORE = Score("sasa", 3.0, 1.0, True)
HOSTILE = '<img src=x onerror=alert(1)><script>alert(1)</script>${alert(1)}{{7*7}}**b** [a](b)"'


def seen(**changes: object) -> RiskMap:
    found = RiskMap(
        scores=torch.tensor([0.3, 0.1, 0.0, 0.2]),
        words=("bomb", "knife", "knife", "bomb"),
        moved=torch.tensor([True, False, False, True]),
        relative_shift=torch.zeros(4),
        tau=0.15,
        grid=(2, 2),
        picture=Image.new("RGB", (8, 8), "red"),
    )
    return replace(found, **changes)  # type: ignore[arg-type]


class Page(HTMLParser):
    """The tags, the attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_gauge_shows_the_score_its_threshold_and_what_is_known() -> None:
    found = gauge(SCORE, CLOUD)
    assert found is not None
    # From -4 - 0.48 to 4 + 0.48, on 70 to 352.
    assert found.score == pytest.approx(70 + 282 * 7.48 / 8.96, abs=0.06)
    assert found.threshold == pytest.approx(70 + 282 * 5.48 / 8.96, abs=0.06)
    assert found.harmful[0] < found.threshold < found.harmful[1] < found.score < found.harmful[2]
    assert found.sentence == (
        "Score 3.00 is at or above the threshold 1.00: refused. Of known requests with a picture "
        "it refuses 2 of 3 harmful ones and 1 of 3 harmless ones."
    )


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_a_gauge_without_references_or_spread_is_still_drawn(value: float) -> None:
    found = gauge(Score("sasa", value, 1.0, value >= 1), None)
    assert found is not None
    assert 70 <= found.score <= found.threshold <= 352
    assert found.sentence.startswith(
        f"Score {value:.2f} is {'at or above' if value == 1 else 'below'}"
    )


def test_a_detector_that_failed_has_a_sentence_and_no_figure() -> None:
    failed = Score("sasa", None, 0.0, True)
    assert gauge(failed, CLOUD) is None
    page = answers_html([Reply("sasa", "no.", True, (failed,))], Look({("sasa", "sasa"): CLOUD}))
    assert "The detector could not judge this, so it refused." in page
    assert "ss-gauge" not in page


def test_a_curve_has_the_layers_that_count() -> None:
    figure = curve_figure(CURVE)
    asked = [line.style for line in figure.drawn if line.style.startswith("asked")]
    assert asked == sorted(asked), "a thin line covers the broad one, not the other way round"
    assert figure.drawn[-len(asked) :] == figure.lines[: len(asked)]
    assert [line.name for line in figure.lines] == [
        "undefended",
        "rai",
        "known harmful requests with a picture",
        "known harmless requests with a picture",
    ]
    asked = figure.lines[0]
    assert [x for x, _ in asked.dots] == [44.0, pytest.approx(156.7), 382.0]
    assert figure.across == tuple(zip([44.0, 156.7, 382.0], (2, 3, 5), strict=True))
    low = [y for _, y in asked.dots]
    assert low == sorted(low, reverse=True)  # higher values are higher up
    assert figure.one < figure.zero
    assert figure.sentence == (
        "At layer 5: undefended 0.60, rai 1.10; known requests with a picture have 0.50 if "
        "harmful and 0.20 if harmless."
    )


@pytest.mark.parametrize("value", [-3.0, 0.5, 40.0])
def test_a_curve_stays_within_its_frame(value: float) -> None:
    levels = replace(LEVELS, layers=(7,), harmful=(1.0,), benign=(0.0,), form="text")
    figure = curve_figure(Curve(levels, {"none": (value,)}, n=1))
    (line,) = figure.lines
    ((x, y),) = line.dots
    assert figure.left <= x <= figure.right
    assert figure.top <= y <= figure.floor
    assert 2 <= len(figure.up) <= 7


def test_figures_have_their_numbers_in_text() -> None:
    look = Look({("sasa", "sasa"): CLOUD}, (seen(),), CURVE, ("A remark.",))
    page = Page(answers_html([Reply("none", "yes."), Reply("sasa", "no.", True, (SCORE,))], look))
    labels = [value for name, value in page.attributes if name in ("alt", "aria-label") and value]
    for sentence in (
        "RAI moves 2 of 4 visual tokens, toward bomb (0.30).",
        "Score 3.00 is at or above the threshold 1.00",
        "At layer 5: undefended 0.60",
    ):
        assert sentence in page.text
        assert any(sentence in label for label in labels), sentence
    assert "A remark." in page.text
    assert page.tags.count("table") == 1
    assert page.text.count("0.60") >= 2
    assert page.tags.count("img") == len([1 for name, _ in page.attributes if name == "alt"])


def test_a_picture_in_tiles_has_words_and_no_map() -> None:
    page = Page(answers_html([Reply("none", "yes.")], Look({}, (seen(grid=None),))))
    assert "img" not in page.tags
    assert "splits this picture into tiles" in page.text


def test_what_others_wrote_stays_text() -> None:
    hostile = Score(HOSTILE, 1.0, 0.0, True)
    map_ = seen(words=(HOSTILE,) * 4)
    curve = replace(CURVE, lines={"none": (0.1,) * 3, HOSTILE: (0.2,) * 3})
    replies = [
        Reply(HOSTILE, HOSTILE, True, (hostile,)),
        Reply("none", "", fault=HOSTILE),
    ]
    example = Example(HOSTILE, (Image.new("RGB", (4, 4)),))
    for page in (
        answers_html(replies),
        answers_html(replies, Look({(HOSTILE, HOSTILE): CLOUD}, (map_,), curve, (HOSTILE,))),
        error_html(HOSTILE),
        examples_html([example]),
        head_html(HOSTILE, HOSTILE),
        start_html(),
    ):
        found = Page(page)
        assert not {"script", "a", "b", "iframe", "object"} & set(found.tags)
        for name, value in found.attributes:
            assert not name.startswith("on")
            assert name not in ("href", "srcdoc")
            assert name != "src" or str(value).startswith("data:image/webp;base64,")
    assert HOSTILE in Page(answers_html(replies)).text
