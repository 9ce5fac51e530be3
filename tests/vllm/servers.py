"""Starts `safesight serve --engine vllm` on the bundled model, as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from safesight.hosting.ports import listening

ENGINE = ("--enforce-eager", "--max-model-len=512", "--distributed-executor-backend=uni")
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
PATIENCE = 500.0
"""Seconds for a start."""


def start(*words: str, key: str = "", **popen: Any) -> tuple[subprocess.Popen[Any], str]:
    """A process that starts to serve, and where it will answer.

    Args:
        *words: Arguments of `safesight serve`.
        key: An API key; without one, any client on this machine may ask.
        **popen: More for `Popen`.
    """
    with listening("127.0.0.1", 0) as door:
        port = str(door.getsockname()[1])
    command = [sys.executable, "-m", "safesight", "serve", "--engine", "vllm", "--port", port]
    environment = {**os.environ, **CPU, **({"SAFESIGHT_API_KEY": key} if key else {})}
    process = subprocess.Popen([*command, *words, "--", *ENGINE], env=environment, **popen)
    return process, f"http://127.0.0.1:{port}"


@contextmanager
def serving(*words: str, key: str = "") -> Iterator[str]:
    """Inside, a server answers at the address that this yields."""
    process, address = start(*words, key=key)
    end = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < end:
            assert process.poll() is None, "the server ended"
            try:
                if httpx.get(f"{address}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        else:
            raise AssertionError("the server did not start")
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
