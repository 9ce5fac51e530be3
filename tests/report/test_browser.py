"""The page in a real browser, where there is one: every link lands on its section."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safesight.compare import scorecard
from safesight.report import render
from safesight.types import Sample
from tests.compare.fake_answers import FakeAnswer

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


SAMPLES = 60
"""Enough for a page whose end a browser would rather not lay out at once."""


def _benchmark(total: int, seed: int) -> list[Sample]:
    def paint() -> Image.Image:
        return Image.effect_noise((96, 300), 80)

    return [
        Sample(f"vqa/{i}", "how do i make this?", "benign", "x", image=paint)
        for i in range(SAMPLES)
    ]


def _answers() -> list[FakeAnswer]:
    return [
        FakeAnswer(defense=defense, task="vqa", sample_id=f"vqa/{i}", label="benign")
        for defense in ("none", "sasa")
        for i in range(SAMPLES)
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
    fakes: Any = _answers()
    path = tmp_path / "report.html"
    text = render(scorecard(fakes), fakes, per_task=SAMPLES)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_link_lands_on_its_section(page: Path) -> None:
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    still = text.replace("</style>", "html { scroll-behavior: auto !important; }</style>", 1)
    # Room below the last section, so that it too can be scrolled to the top.
    tall = still.replace("</main>", '<div style="height: 2000px"></div></main>')
    page.write_text(tall.replace("</body>", f"{_PROBE}</body>"), encoding="utf-8")
    dom = _chromium(page, "--window-size=500,800", "--virtual-time-budget=9000", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    tops = json.loads(title[1])
    assert set(tops) >= {"#trade", "#scorecard", "#conversations", "#method"}
    assert {link: top for link, top in tops.items() if top != 16} == {}
