"""The page in a real browser, without a network: what it asks for, shows and says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

WAIT = 120_000
HOSTILE = "<img src=x onerror=\"document.title='taken'\">**b** ${document.title='taken'} {{7*7}}"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        found = playwright.chromium.launch(executable_path=program, args=options)
        yield found
        found.close()


@contextmanager
def opened(browser: Browser, site: str, **context: Any) -> Iterator[Page]:
    """The page, which may ask for nothing elsewhere and write no error."""
    elsewhere: list[str] = []
    errors: list[str] = []
    visit = browser.new_context(**context)
    page = visit.new_page()

    def sent(request: Any) -> None:
        if not request.url.startswith((f"{site}/", "data:", f"blob:{site}/")):
            elsewhere.append(request.url)

    page.on("request", sent)
    page.on("console", lambda said: said.type == "error" and errors.append(said.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site)
    page.wait_for_selector("button[data-example]", timeout=WAIT)
    yield page
    visit.close()
    assert elsewhere == []
    assert errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_an_example_is_answered_with_its_figures(
    browser: Browser, site: str, size: str, scheme: Any
) -> None:
    width, height = SIZES[size]
    view: Any = {"width": width, "height": height}
    with opened(browser, site, viewport=view, color_scheme=scheme) as page:
        page.keyboard.press("Tab")
        page.locator("button[data-example='0']").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".ss-curve", timeout=WAIT)
        titles = page.locator(".ss-card h3").all_inner_texts()
        assert [title.split()[0] for title in titles] == ["undefended", "sasa", "rai"]
        assert page.locator(".ss-gauge").count() == 1
        assert page.locator(".ss-maps img").count() == 1
        assert page.locator("#ss-pictures img").count() == 1
        # The answer is in sight, however long the page is.
        assert page.locator(".ss-answer").first.bounding_box()["y"] < height / 2 + 100
        # Nothing sticks out at the side, and nothing is too faint to read.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert min(page.evaluate(CONTRASTS)) >= 4.5
        assert page.locator("img:not([alt])").count() == 0
        assert page.locator("#ss-answers [aria-live=polite], #ss-answers[aria-live=polite]").count()
        assert not page.locator("footer").is_visible()


def test_a_picture_of_ones_own(browser: Browser, site: str, tmp_path: Path) -> None:
    file = tmp_path / "own.png"
    Image.new("RGB", (64, 48), "red").save(file)
    with opened(browser, site) as page:
        page.set_input_files("#ss-pictures input[type=file]", [file, file])
        page.wait_for_function("document.querySelectorAll('#ss-pictures img').length == 2")
        page.get_by_label("Question").fill("what is this?")
        page.get_by_role("button", name="Ask", exact=True).click()
        page.wait_for_selector(".ss-curve", timeout=WAIT)
        assert page.locator(".ss-maps figure").count() == 2


@pytest.mark.parametrize("size", SIZES)
def test_answers_to_an_earlier_question_are_marked(
    browser: Browser, site: str, tmp_path: Path, size: str
) -> None:
    file = tmp_path / "own.png"
    Image.new("RGB", (64, 48), "red").save(file)
    width, height = SIZES[size]
    with opened(browser, site, viewport={"width": width, "height": height}) as page:
        page.get_by_text("Drop pictures here").first.wait_for(timeout=WAIT)
        wide = page.evaluate(WIDTH)
        page.locator("button[data-example='0']").click()
        page.wait_for_selector(".ss-curve", timeout=WAIT)
        assert page.evaluate(WIDTH) == wide
        assert page.locator(".ss-stale").count() == 0
        page.set_input_files("#ss-pictures input[type=file]", [file])
        page.wait_for_selector(".ss-stale", timeout=WAIT)
        page.get_by_role("button", name="Ask", exact=True).click()
        page.wait_for_selector(".ss-waiting", timeout=WAIT)
        assert page.locator(".ss-stale").count() == 0
        page.get_by_label("Question").press_sequentially("?")
        page.wait_for_selector(".ss-stale .ss-curve", timeout=WAIT)
        # The example's picture has made way for the visitor's own.
        assert page.locator(".ss-maps figure").count() == 1


def test_a_defense_is_found_by_its_name_and_explained(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        picker = page.get_by_label("Defenses")
        picker.click()
        picker.press_sequentially("safety_prompt")
        assert page.get_by_role("option", name="safety_prompt", exact=True).count() == 1
        page.keyboard.press("Escape")
        page.get_by_text("What the defenses do").click()
        assert page.locator(".ss-about dt", has_text="safety_prompt").first.is_visible()
        assert all(page.locator(".ss-about dd").all_inner_texts())


def test_what_people_write_stays_text(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        page.get_by_label("Question").fill(HOSTILE)
        page.get_by_role("button", name="Ask", exact=True).click()
        page.wait_for_selector(".ss-curve", timeout=WAIT)
        assert page.title() == "safesight"


def test_what_a_model_writes_stays_text(
    browser: Browser, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "safesight.models.VLM.decode", lambda self, tokens, n: [HOSTILE] * len(tokens)
    )
    with opened(browser, site) as page:
        page.locator("button[data-example='5']").click()
        page.wait_for_selector(".ss-curve", timeout=WAIT)
        assert page.locator(".ss-answer").first.inner_text() == HOSTILE
        assert page.locator(".ss-answers img, .ss-answers b, .ss-answers strong").count() == 0
        assert page.title() == "safesight"


def test_no_question_is_one_sentence(browser: Browser, site: str) -> None:
    with opened(browser, site) as page:
        page.get_by_role("button", name="Ask", exact=True).click()
        error = page.get_by_role("alert").filter(has_text="There is no question yet.")
        error.wait_for(timeout=WAIT)


WIDTH = "document.querySelector('main').getBoundingClientRect().width"

CONTRASTS = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parts = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const found = parts(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const texts = ".ss-head p, .ss-card h3, .ss-answer, .ss-badge, figcaption, .ss-figure p, "
    + ".ss-key li";
  return [...document.querySelectorAll(texts)].map((node) => {
    const [a, b] = [light(parts(getComputedStyle(node).color)), light(ground(node))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
}"""
