"""Serve an application until the process is told to stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from safesight.server.connections import Connection

__all__ = ["run", "server"]


def server(app: Any, *, most_connections: int, grace: float) -> uvicorn.Server:
    """What serves an application.

    Args:
        app: The application.
        most_connections: More connections than these get status 503.
        grace: Seconds for running requests once the process is told to stop.
    """
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=most_connections,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(grace),
    )
    return uvicorn.Server(config)


def run(serving: uvicorn.Server, door: socket.socket) -> None:
    """Serve until the process is told to stop; running requests are finished first.

    Args:
        serving: What `server` gave.
        door: Where it listens.
    """
    with _stopping_is_success():
        serving.run(sockets=[door])


@contextmanager
def _stopping_is_success() -> Iterator[None]:
    """A signal that uvicorn has obeyed is repeated by it, and then has nothing left to end."""
    before = {each: signal.signal(each, _nothing) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _nothing(number: int, frame: object) -> None:
    """Take a signal and do nothing."""
