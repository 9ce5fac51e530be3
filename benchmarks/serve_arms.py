"""Servers of the bundled model, what they are asked, and how their answers come.

Not a benchmark; `serve.py` is.
"""

from __future__ import annotations

import base64
import io
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from safesight import registry
from safesight.types import Sample

__all__ = ["PLAIN", "Prompt", "Server", "Told", "ask", "prompts", "started"]

TASKS = ("image_harm", "text_harm", "typographic_harm", "over_refusal", "vqa", "sensitive_benign")
LENGTHS = (8, 24, 48)
PLAIN = "transformers serve"


@dataclass(frozen=True)
class Prompt:
    """What one user asks."""

    sample: Sample
    messages: list[dict[str, Any]]
    tokens: int


@dataclass(frozen=True)
class Told:
    """How an answer came."""

    text: str
    reason: str | None
    first: float
    """Seconds to the first piece of text."""
    whole: float
    """Seconds to the end."""


@dataclass(frozen=True)
class Server:
    """A program that serves."""

    address: str
    model: str
    pid: int

    @contextmanager
    def client(self) -> Iterator[openai.AsyncOpenAI]:
        """OpenAI's client of it."""
        yield openai.AsyncOpenAI(base_url=self.address, api_key="none", max_retries=0, timeout=120)


def prompts(n: int) -> list[Prompt]:
    """This many prompts, of all tasks and lengths in turn."""
    each = -(-n // len(TASKS))
    pools = [registry.load("benchmark", task)(each, split="test", seed=0) for task in TASKS]
    chosen = [pools[at % len(pools)][at // len(pools)] for at in range(n)]
    return [
        Prompt(sample, shown(sample), LENGTHS[at % len(LENGTHS)])
        for at, sample in enumerate(random.Random(0).sample(chosen, n))
    ]


def shown(sample: Sample) -> list[dict[str, Any]]:
    """The messages of a sample in OpenAI's form."""

    def part(found: dict[str, Any]) -> dict[str, Any]:
        if found["type"] != "image":
            return found
        buffer = io.BytesIO()
        found["image"].save(buffer, "PNG")
        uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return {"type": "image_url", "image_url": {"url": uri}}

    return [{**turn, "content": list(map(part, turn["content"]))} for turn in sample.messages()]


@contextmanager
def started(arm: str) -> Iterator[Server]:
    """A server for an arm, ready to answer; ended at the end."""
    if arm == PLAIN:
        model = str(registry.load("model", "testbed"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        code = f"from transformers.cli.serve import Serve; Serve({model!r}, port={port})"
        command = [sys.executable, "-c", code]
    else:
        model, port = "testbed", 0
        words = ["--defense", arm, "--allow", "none", "--port", "0"]
        command = [sys.executable, "-m", "safesight", "serve", *words]
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said.txt"
        with said.open("wb") as file:
            program = subprocess.Popen(command, stderr=file, stdout=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}/v1" if port else told_address(program, said)
            wait_for(address.removesuffix("/v1") + "/health")
            yield Server(address, model, program.pid)
        finally:
            program.kill()
            program.wait()


def told_address(program: subprocess.Popen[bytes], said: Path) -> str:
    """The address in what a server says when it is ready."""
    while program.poll() is None:
        if found := re.search(r"http://\S+/v1", said.read_text()):
            return found[0]
        time.sleep(0.2)
    raise SystemExit(f"The server did not start:\n{said.read_text()}")


def wait_for(address: str) -> None:
    """Return once a server says that it is well."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit(f"Nothing answers at {address}.")


async def ask(client: openai.AsyncOpenAI, server: Server, prompt: Prompt, **more: Any) -> Told:
    """One answer, streamed."""
    begin = time.perf_counter()
    first, text, reason = 0.0, "", None
    stream = await client.chat.completions.create(
        model=server.model,
        messages=prompt.messages,  # type: ignore[arg-type]
        max_tokens=prompt.tokens,
        temperature=0,
        stream=True,
        **more,
    )
    async for piece in stream:
        for choice in piece.choices:
            if choice.delta.content:
                first = first or time.perf_counter() - begin
                text += choice.delta.content
            reason = choice.finish_reason or reason
    whole = time.perf_counter() - begin
    return Told(text, reason, first or whole, whole)
