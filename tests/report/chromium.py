"""A headless chromium driven over its pipe, for what only a browser can show."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

_SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--remote-debugging-pipe",
    *(f"--disable-{part}" for part in ("gpu", "quic", "background-networking", "sync")),
    "--disable-component-update",
)


class Tab:
    """One open page."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = os.fdopen(to, "wb", buffering=0), os.fdopen(back, "rb")
        self._session: dict[str, str] = {}
        self._sent = 0

    def call(self, method: str, **params: Any) -> Any:
        """The result of one command of the DevTools protocol."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params, **self._session}
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self._sent:
                return answer["result"]

    def _message(self) -> bytes:
        letters = iter(lambda: self._back.read(1), b"\0")
        text = b"".join(letters)
        assert text, "the browser ended"
        return text

    def open(self, page: Path, width: int) -> None:
        """Open a file in a window of this width and wait until it has loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        self.call("Page.enable")
        self.call("Page.navigate", url=page.as_uri())
        while json.loads(self._message()).get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        wanted = {"expression": script, "awaitPromise": True, "returnByValue": True}
        return self.call("Runtime.evaluate", **wanted)["result"].get("value")


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A browser with a profile of its own, ended on the way out."""
    (read, to), (back, write) = os.pipe(), os.pipe()
    # The browser reads commands from descriptor 3 and writes to 4. bash, because the shortest
    # shells cannot name a descriptor above 9; 8 and 9 are in no one's way.
    wired = f'exec 8<&{read} 9>&{write}; exec "$@" 3<&8 4>&9 8<&- 9>&-'
    process = subprocess.Popen(
        ["bash", "-c", wired, "bash", str(CHROMIUM), *_SWITCHES, f"--user-data-dir={profile}"],
        pass_fds=(read, write),
        stderr=subprocess.DEVNULL,
    )
    os.close(read)
    os.close(write)
    try:
        yield Tab(to, back)
    finally:
        process.terminate()
        process.wait(30)
