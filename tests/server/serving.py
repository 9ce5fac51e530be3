"""A server on loopback, in this process: the bundled model with `probe`, and what to ask it."""

from __future__ import annotations

import base64
import functools
import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
from PIL import Image

from safesight.benchmarks import load_benchmark
from safesight.hosting.decision_log import DecisionLog
from safesight.hosting.hosts import Host, host
from safesight.hosting.ports import listening
from safesight.server.app import ROUTES, create_app
from safesight.server.choices import Choices
from safesight.server.metrics import Metrics
from safesight.server.record import Record
from safesight.server.running import server
from safesight.server.settings import Limits, ServerSettings
from safesight.types import Sample

TOKENS = 24


@dataclass(frozen=True)
class Serving:
    """A running server."""

    root: str
    app: Any
    host: Host
    choices: Choices

    @functools.cached_property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.root}/v1", api_key="none", max_retries=0, timeout=60)

    def ask(self, messages: Any, **fields: Any) -> Any:
        """A completion of at most `TOKENS` tokens, through the official client."""
        fields = {"model": "testbed", "max_tokens": TOKENS, **fields}
        return self.client.chat.completions.create(messages=messages, **fields)

    def post(self, body: Any, path: str = "/v1/chat/completions") -> httpx.Response:
        if isinstance(body, bytes):
            return httpx.post(self.root + path, content=body, timeout=60)
        return httpx.post(self.root + path, json=body, timeout=60)

    def metric(self, name: str) -> float:
        lines = httpx.get(f"{self.root}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def places(self) -> float:
        """How many answers are waited for or written."""
        return self.metric("safesight_requests_running") + self.metric("safesight_requests_waiting")

    def expected(self, messages: Any, defense: str = "probe", **arguments: Any) -> str:
        """What `vlm.answer` gives for the same prompt with the same defense."""
        arguments = {"max_new_tokens": TOKENS, **arguments}
        with self.host.lock, self.choices.chosen({"defense": [defense]}).attached(self.host.vlm):
            return str(self.host.vlm.answer([messages], **arguments)[0])


@contextmanager
def serving(log: Path | None = None, **limits: Any) -> Iterator[Serving]:
    """Serve the bundled model on a free port, with these limits."""
    asked = host("testbed")
    asked.batcher.quiet, asked.batcher.patience = 0.01, 2.0
    limits = {"seconds": 60.0, "max_pictures": 4, **limits}
    rules = ServerSettings(
        name="testbed",
        limits=Limits(**limits),
        allowed=("probe", "none"),
        allow_threshold=True,
    )
    choices = Choices(asked.vlm, ["probe"], {}, allowed=rules.allowed, allow_threshold=True)
    metrics = Metrics(ROUTES, choices.detectors)
    kept = None if log is None else DecisionLog(log, on_failure=metrics.log_failed)
    app = create_app(asked, choices, rules, Record("testbed", metrics, kept))
    door = listening("127.0.0.1", 0)
    running = server(app, most_connections=500, grace=10)
    thread = threading.Thread(target=lambda: running.run(sockets=[door]), daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    address = f"http://127.0.0.1:{door.getsockname()[1]}"
    found = Serving(address, app, asked, choices)
    with found.client:
        yield found
    running.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def soon(condition: Any, seconds: float = 20) -> bool:
    """Whether a condition holds within a time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@functools.cache
def samples(task: str) -> Sequence[Sample]:
    return load_benchmark(task)(12, split="test", seed=0)


def url(picture: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{encoded}"


def shown(sample: Sample) -> list[dict[str, Any]]:
    """The prompt of a sample in OpenAI's form."""
    found = []
    for message in sample.messages():
        parts = [
            {"type": "image_url", "image_url": {"url": url(part["image"])}}
            if part["type"] == "image"
            else part
            for part in message["content"]
        ]
        found.append({"role": message["role"], "content": parts})
    return found
