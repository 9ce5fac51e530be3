"""The page in a real browser, where there is one: links land, and print has every picture."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safesight.compare import scorecard
from safesight.report import render
from safesight.types import Sample
from tests.compare.fake_answers import FakeAnswer
from tests.report.chromium import CHROMIUM, Tab, tab

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
    pytest.mark.timeout(120),
]

SAMPLES = 60
"""Enough for a page whose end a browser would rather not lay out at once."""

_LANDINGS = """(async () => {
  document.documentElement.style.scrollBehavior = "auto";
  const tops = {};
  for (const link of document.querySelectorAll("nav a")) {
    scrollTo(0, 0);
    link.click();
    await new Promise((done) => setTimeout(done, 100));
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 1;
    const top = document.querySelector(link.hash).getBoundingClientRect().top;
    tops[link.hash] = atEnd && top > 0 && top < innerHeight ? "the end" : Math.round(top);
  }
  return tops;
})()"""


def _benchmark(total: int, seed: int) -> list[Sample]:
    def paint() -> Image.Image:
        return Image.effect_noise((96, 300), 80)

    return [
        Sample(f"vqa/{i}", "how do i make this?", "benign", "x", image=paint)
        for i in range(SAMPLES)
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fakes: Any = [
        FakeAnswer(defense=defense, task="vqa", sample_id=f"vqa/{i}", label="benign")
        for defense in ("none", "sasa")
        for i in range(SAMPLES)
    ]
    path = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("safesight.report.pictures.load_benchmark", lambda task: _benchmark)
        path.write_text(render(scorecard(fakes), fakes, per_task=SAMPLES), encoding="utf-8")
    return path


@pytest.fixture(params=[1440, 390])
def opened(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tab]:
    with tab(tmp_path) as found:
        found.open(page, request.param)
        yield found


def test_links_land_and_print_has_every_picture(opened: Tab) -> None:
    # Print first: nothing has been scrolled into view yet.
    paper = base64.b64decode(opened.call("Page.printToPDF")["data"])
    assert paper.count(b"/Subtype /Image") == SAMPLES
    tops = opened.run(_LANDINGS)
    assert set(tops) >= {"#trade", "#scorecard", "#conversations", "#method"}
    assert {link: top for link, top in tops.items() if top not in (16, "the end")} == {}
    assert opened.run("document.documentElement.scrollWidth <= innerWidth")
