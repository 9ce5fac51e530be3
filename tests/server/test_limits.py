"""Bodies that are too large, too slow, too many, or never end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from safesight.server.limits import BodyLimit
from tests.server.asgi import GONE, Echo, ask, asked, request

HOST = ("host", "localhost")


def length(size: int | str) -> list[tuple[str, str | bytes]]:
    return [HOST, ("content-length", str(size))]


@pytest.mark.parametrize("size", [0, 1, 99, 100])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_within_the_limit_arrives_whole(size: int, announced: bool) -> None:
    app = Echo()
    body = bytes(range(100))[:size]
    parts = [request(body[:50], more=True), request(body[50:])]
    answer = ask(BodyLimit(app, 100), parts, headers=length(size) if announced else [HOST])
    assert (answer.status, answer.body, app.bodies) == (200, body, [body])


@pytest.mark.parametrize("headers", [[HOST], length(5), length("-1"), length("x"), length(10**30)])
def test_a_body_that_is_too_large_is_refused(headers: Any) -> None:
    app = Echo()
    parts = [request(bytes(60), more=True), request(bytes(60), more=True), request()]
    answer = ask(BodyLimit(app, 100), parts, headers=headers)
    assert (answer.status, app.bodies) == (413, [])
    assert answer.error["code"] == "request_too_large"
    assert answer.headers["connection"] == "close"


def taken(headers: Any, parts: list[dict[str, Any]]) -> int:
    """How many messages were taken in before the refusal."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    async def send(message: Any) -> None:
        assert message.get("status", 413) == 413

    scope = {
        "type": "http",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    asyncio.run(BodyLimit(Echo(), 100)(scope, receive, send))
    return len(parts) - len(left)


def test_what_is_on_its_way_is_taken_in_within_reason() -> None:
    parts = [request(bytes(100), more=True) for _ in range(20)]
    assert taken(length(300), parts) == 3
    assert taken(length(300), [*parts[:1], GONE, *parts]) == 2
    assert taken(length(401), parts) == 0
    assert taken([*length(300), ("expect", "100-continue")], parts) == 0
    assert taken([], parts) == 2


def test_a_client_that_sends_slowly_is_cut() -> None:
    app = Echo()
    parts = [request(b"x", more=True)] * 1000
    started = time.monotonic()
    answer = ask(BodyLimit(app, 10_000, seconds=0.2), parts, pause=0.02)
    assert time.monotonic() - started < 2
    assert (answer.status, app.bodies) == (408, [])
    assert answer.error["code"] == "request_timeout"


def test_the_time_limit_ends_with_the_body() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)
        raise TimeoutError("of the application")

    with pytest.raises(TimeoutError, match="of the application"):
        ask(BodyLimit(slow, 100, seconds=0.1))


def test_a_client_that_leaves_gets_nothing() -> None:
    app = Echo()
    answer = ask(BodyLimit(app, 100), [request(b"x", more=True), GONE])
    assert (answer.status, app.bodies) == (None, [])


def test_the_application_hears_that_a_client_has_left() -> None:
    heard = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([await receive(), await receive()])

    ask(BodyLimit(app, 100), [request(b"x"), GONE])
    assert heard == [request(b"x"), GONE]


def test_all_bodies_together_are_limited_and_every_end_frees_its_place() -> None:
    async def run() -> list[int | None]:
        answering, done = asyncio.Event(), asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            answering.set()
            await done.wait()
            raise RuntimeError("a bug")

        limited = BodyLimit(waits, 100, seconds=0.2, max_total_bytes=150)
        first = asyncio.create_task(asked(limited, [request(bytes(100))]))
        await answering.wait()
        statuses = [(await asked(limited, [request(bytes(60))])).status]
        answering.clear()
        left = [request(bytes(40), more=True)]
        statuses += [
            (await asked(limited, [*left, GONE])).status,
            (await asked(limited, [*left, *left, *left, request()])).status,
            (await asked(limited, [*left, *left], pause=0.15)).status,
        ]
        done.set()
        with pytest.raises(RuntimeError, match="a bug"):
            await first
        assert limited._held == 0
        return statuses

    assert asyncio.run(run()) == [503, None, 503, 408]


def test_nothing_but_http_is_read() -> None:
    app = Echo()
    ask(BodyLimit(app, 100), kind="lifespan")
    assert app.bodies == [b"lifespan"]
