"""Calls ASGI applications without a server, message by message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

App = Callable[[Any, Any, Any], Any]


@dataclass
class Answer:
    """What an application answered."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> dict[str, Any]:
        """The error object of OpenAI's API."""
        found = json.loads(self.body)
        assert found.keys() == {"error"}
        assert found["error"].keys() == {"message", "type", "param", "code"}
        return dict(found["error"])


def request(body: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


async def asked(
    app: App,
    messages: Iterable[dict[str, Any]] = (),
    path: str = "/v1/chat/completions",
    headers: Iterable[tuple[str, str | bytes]] = (("host", "localhost"),),
    pause: float = 0.0,
    kind: str = "http",
) -> Answer:
    """The answer to a request whose body comes in some messages, each after a pause."""
    pending = list(messages) or [request()]
    found = Answer()

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause if pending else 60)
        return pending.pop(0)

    async def send(message: Any) -> None:
        if message["type"].endswith("response.start"):
            found.status = message["status"]
            found.headers = {n.decode(): v.decode() for n, v in message["headers"]}
        else:
            found.body += message.get("body", b"")

    encoded = [(n.encode(), v if isinstance(v, bytes) else v.encode()) for n, v in headers]
    scope = {
        "type": kind,
        "method": "POST",
        "path": path,
        "headers": encoded,
        "extensions": {"websocket.http.response": {}},
    }
    await app(scope, receive, send)
    return found


def ask(app: App, *args: Any, **options: Any) -> Answer:
    return asyncio.run(asked(app, *args, **options))


class Echo:
    """Answers with the body, and remembers what it saw."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            self.bodies.append(scope["type"].encode())
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
