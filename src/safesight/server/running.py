"""Start a server: the port first, then the model, then the doors open."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from safesight.errors import StorageError, reason_of

__all__ = ["listening", "run"]


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a port that is taken is noticed before anything is loaded.

    Args:
        host: A name or an address.
        port: The port; 0 for any free one.

    Raises:
        StorageError: the address cannot be used, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(socket.SOMAXCONN)
    except OSError as error:
        raise StorageError(
            f"The server cannot listen on {host}, port {port} ({reason_of(error)}). "
            "Choose another with --port or --host."
        ) from error
    return found


def run(app: Any, door: socket.socket, *, most_connections: int, grace: float) -> None:
    """Serve until the process is told to stop; running requests are finished first.

    Args:
        app: The application.
        door: Where it listens.
        most_connections: More connections than these get status 503.
        grace: Seconds for running requests once the process is told to stop.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=most_connections,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(grace),
    )
    uvicorn.Server(config).run(sockets=[door])
