"""Serve an application until the process is told to stop.

The first signal lets running answers end. A second Ctrl+C breaks them off: each client is told so
in the form of the protocol, and one that does not listen is cut off soon after.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from safesight.console import numbered, stderr
from safesight.server.connections import Connection

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from safesight.server.answering import Places

__all__ = ["run", "server"]

_LAST_WORDS = 1.0
"""Seconds for clients to hear that their answers were broken off."""


def server(app: FastAPI, *, most_connections: int, grace: float) -> uvicorn.Server:
    """What serves an application.

    Args:
        app: What `create_app` gave.
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
    return _Server(config, app.state.places)


class _Server(uvicorn.Server):
    """A server that can be told twice to stop, and says what it then does."""

    def __init__(self, config: uvicorn.Config, places: Places) -> None:
        super().__init__(config)
        self._places, self._told_twice = places, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: stop, or stop at once. A third one leaves what is left to itself."""
        again = self.should_exit and sig == signal.SIGINT
        if again and not self._told_twice:
            self._told_twice = True
            self._soon(self._break_off)
            return
        super().handle_exit(sig, frame)
        if not again:
            self._soon(self._say)

    def _soon(self, function: Any) -> None:
        """Call a function outside the signal's handler, in which hardly anything is safe."""
        asyncio.get_running_loop().call_soon_threadsafe(function)

    def _say(self) -> None:
        if number := self._places.taken:
            answers = numbered(number, "answer")
            stderr().print(f"Finishing {answers}. Ctrl+C again stops at once.")

    def _break_off(self) -> None:
        self._places.close()
        asyncio.get_running_loop().call_later(_LAST_WORDS, self._cut_off)

    def _cut_off(self) -> None:
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()


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
