"""A server of vLLM that an evaluation starts for itself, and that ends with it.

What it prints is kept in a file. If it does not start, the line there that says why is quoted.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safesight.console import waiting
from safesight.errors import ModelError
from safesight.evals.endpoint import Address
from safesight.hosting.ports import listening
from safesight.vllm.causes import cause_in
from safesight.vllm.parent import PARENT
from safesight.vllm.stopping import kill_all_of

__all__ = ["LocalServer"]

PATIENCE = 1800.0
"""Seconds that a server may take to start: it may have to download and compile."""
GRACE = 60.0
"""Seconds that it may take to end."""


@dataclass
class LocalServer:
    """A server that is started when it is needed."""

    engine: str
    words: Sequence[str]
    """Arguments of `safesight serve`, without the port."""
    more: Sequence[str]
    log: Path
    """What it prints."""
    _address: Address | None = None

    @property
    def address(self) -> Address:
        """Where it is, while it is running."""
        assert self._address is not None, "it is not running"
        return self._address

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, it answers.

        Raises:
            ModelError: it did not start.
        """
        with listening("127.0.0.1", 0) as door:
            port = int(door.getsockname()[1])
        key = secrets.token_hex(16)
        command = [sys.executable, "-m", "safesight", "serve", *self.words, "--port", str(port)]
        environment = {**os.environ, "SAFESIGHT_API_KEY": key, PARENT: str(os.getpid())}
        with self.log.open("w", encoding="utf-8") as printed:
            process = subprocess.Popen(
                [*command, "--", *self.more],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        try:
            address = f"http://127.0.0.1:{port}"
            with waiting("Starting vLLM"):
                self._wait(process, address)
            self._address = Address(f"{address}/v1", key, "served")
            yield
        finally:
            self._address = None
            _end(process)

    def _wait(self, process: subprocess.Popen[bytes], address: str) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if process.poll() is not None:
                said = self.log.read_text(encoding="utf-8", errors="replace")
                raise ModelError(f"vLLM did not start: {cause_in(said)[:400]} See {self.log}.")
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                return
            except OSError:
                time.sleep(0.5)
        raise ModelError(f"vLLM did not start within {PATIENCE:.0f} seconds. See {self.log}.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server; what is left of it after a while is killed."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        kill_all_of(process.pid)
        process.wait()
