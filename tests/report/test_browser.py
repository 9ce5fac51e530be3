"""The page in a real browser, where there is one: links land, and print has every picture."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safesight.report import render
from safesight.types import Sample
from tests.report.fakes import answers, card
from tests.report.test_html import Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

_PROBE = """<script>addEventListener("load", () => {
  const tops = {};
  for (const link of document.querySelectorAll("nav a")) {
    link.click();
    const target = document.querySelector(link.hash);
    tops[link.hash] = Math.round(target.getBoundingClientRect().top);
  }
  document.title = JSON.stringify(tops);
});</script>"""


def _benchmark(total: int, seed: int) -> list[Sample]:
    def paint() -> Image.Image:
        return Image.effect_noise((96, 300), 80)

    return [
        Sample(f"{task}/{i}", "what is this?", "benign", "x", image=paint)
        for i in range(total)
        for task in ("vqa", "over_refusal")
    ]


def _chromium(page: Path, *words: str) -> str:
    """What chromium prints for a page; it has a profile of its own and no network."""
    assert CHROMIUM is not None
    quiet = ("quic", "background-networking", "component-update", "sync", "gpu")
    switches = ["--headless", "--no-sandbox", *(f"--disable-{each}" for each in quiet)]
    folder = f"--user-data-dir={page.parent / 'profile'}"
    command = [CHROMIUM, *switches, "--no-first-run", folder, *words, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("safesight.report.pictures.load_benchmark", lambda task: _benchmark)
    fakes: Any = answers()
    path = tmp_path / "report.html"
    path.write_text(render(card(), fakes), encoding="utf-8")
    return path


def test_every_link_lands_on_its_section(page: Path) -> None:
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    still = text.replace("</style>", "html { scroll-behavior: auto !important; }</style>", 1)
    # Room below the last section, so that it too can be scrolled to the top.
    tall = still.replace("</main>", '<div style="height: 2000px"></div></main>')
    page.write_text(tall.replace("</body>", f"{_PROBE}</body>"), encoding="utf-8")
    dom = _chromium(page, "--window-size=500,800", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    tops = json.loads(title[1])
    assert set(tops) >= {"#trade", "#scorecard", "#conversations", "#method"}
    assert {link: top for link, top in tops.items() if top != 16} == {}


def test_print_has_every_picture_that_is_not_hidden(page: Path) -> None:
    shown = Page(page.read_text(encoding="utf-8")).of("img")
    target = page.with_suffix(".pdf")
    _chromium(page, f"--print-to-pdf={target}")
    assert len(shown) == 8
    assert target.read_bytes().count(b"/Subtype /Image") >= len(shown)
