"""The README's picture of the web app: one example in a real browser, as the page shows it.

    python -m scripts.docs.app_picture

It needs the extra `app`, playwright and chromium, and is not part of `make docs`: browsers draw
text differently from machine to machine.
"""

from __future__ import annotations

import io
import shutil
import sys
import threading
from pathlib import Path

from PIL import Image

TARGET = Path(__file__).parents[2] / "docs" / "figures" / "app.png"
_SIZE = (1280, 900)
_SCALE = 1.25
_COLORS = 256
_WAIT = 120_000


def main() -> int:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        print("chromium is not installed.", file=sys.stderr)
        return 2
    TARGET.write_bytes(_small(_taken(program)))
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")
    return 0


def _taken(program: str) -> bytes:
    """A screenshot of the first example, served from this process."""
    from playwright.sync_api import sync_playwright

    from safesight.app.asking import Asker
    from safesight.app.choices import offered
    from safesight.app.serving import server
    from safesight.hosting.hosts import host
    from safesight.hosting.ports import address_of, listening

    served = host("testbed")
    arms, chosen = offered(served.vlm, None, {})
    with (
        listening("127.0.0.1", 0) as door,
        server(Asker(served, arms), chosen, local=True, password=None) as serving,
        sync_playwright() as playwright,
    ):
        thread = threading.Thread(target=serving.run, args=([door],))
        thread.start()
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        width, height = _SIZE
        page = browser.new_page(
            viewport={"width": width, "height": height}, device_scale_factor=_SCALE
        )
        page.goto(address_of(door))
        page.click("button[data-example='0']", timeout=_WAIT)
        page.wait_for_selector(".ss-curve", timeout=_WAIT)
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait_for_timeout(1000)  # pictures fade in
        data = page.screenshot(full_page=True)
        browser.close()
        serving.should_exit = True
        thread.join()
    return data


def _small(data: bytes) -> bytes:
    """The same with few colors, in a third of the bytes."""
    with Image.open(io.BytesIO(data)) as picture:
        reduced = picture.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    reduced.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
