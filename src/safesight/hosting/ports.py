"""Where a program listens: opened before a model is loaded, so that a taken port is told first."""

from __future__ import annotations

import errno
import socket

from safesight.errors import InputError, reason_of

__all__ = ["address_of", "listening"]

_LAST_PORT = 65_535
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""An address of this machine, in place of one that stands for all of them."""
_UNREAD_SECONDS = 60
"""How long a client may leave unread what was sent to it."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: A name or an address.
        port: The port; 0 for any free one.

    Raises:
        InputError: the port is taken or not possible, or there is no such address on this machine.
    """
    if not 0 <= port <= _LAST_PORT:
        raise InputError(f"The port {port} is not possible. Use one from 0 to {_LAST_PORT}.")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A closed connection stays open for as long as its buffer holds an unread answer.
            milliseconds = 1000 * _UNREAD_SECONDS
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        found.bind(place)
        found.listen(socket.SOMAXCONN)
    except UnicodeError as error:
        raise InputError(
            f"{host!r} is not the name of a host. Choose another with --host."
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"Port {port} of {host} is taken. Choose another with --port."
            ) from error
        raise InputError(
            f"Nothing can listen on {host}, port {port} ({reason_of(error)}). "
            "Choose others with --host and --port."
        ) from error
    return found


def address_of(door: socket.socket) -> str:
    """The address for a browser or a client on this machine.

    Example:
        >>> with listening("127.0.0.1", 0) as door:
        ...     address_of(door).startswith("http://127.0.0.1:")
        True
    """
    host, port = door.getsockname()[:2]
    host = _HERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
