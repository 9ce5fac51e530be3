"""Connections whose clients have to send a request, or are closed.

uvicorn waits for the headers of a request for as long as it takes. So clients that open
connections and send little or nothing would, after a while, hold all there may be.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Connection"]


class _Addressed(logging.LoggerAdapter[logging.Logger]):
    """A logger that says whose connection it is about."""

    @property
    def level(self) -> int:
        """What uvicorn asks a logger for."""
        return self.logger.level

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """Add the address."""
        return f"{msg} (from {(self.extra or {})['client']})", kwargs


def _named(client: tuple[str, int] | None) -> str:
    return "an unknown address" if client is None else f"{client[0]}:{client[1]}"


class Connection(H11Protocol):
    """uvicorn's connection, closed if the headers of a request do not arrive in time."""

    header_seconds = 20.0
    """Time for the headers, from the first byte or, on a new connection, from its begin."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.logger = _Addressed(self.logger, {"client": _named(self.client)})  # type: ignore[assignment]
        self._wait(transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take in a part of a request; once its headers are complete, the time is over."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait(self.transport.abort)
        else:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self, end: Callable[[], None]) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.header_seconds, end)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
