"""Start a server: the port first, then the model, then the doors open."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from safesight.errors import InputError, StorageError, reason_of
from safesight.server.connections import Connection

__all__ = ["listening", "run", "server"]

_LAST_PORT = 65_535
_UNREAD_SECONDS = 60
"""How long a client may leave unread what was sent to it."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a port that is taken is noticed before anything is loaded.

    Args:
        host: A name or an address.
        port: The port; 0 for any free one.

    Raises:
        InputError: the port is not possible.
        StorageError: the address cannot be used, or the port is taken.
    """
    if not 0 <= port <= _LAST_PORT:
        raise InputError(f"The port {port} is not possible. Use one from 0 to {_LAST_PORT}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A closed connection stays open for as long as its buffer holds an unread answer.
            milliseconds = 1000 * _UNREAD_SECONDS
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        found.bind(address)
        found.listen(socket.SOMAXCONN)
    except OSError as error:
        raise StorageError(
            f"The server cannot listen on {host}, port {port} ({reason_of(error)}). "
            "Choose another with --port or --host."
        ) from error
    return found


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
