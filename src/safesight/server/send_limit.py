"""Cuts off clients that do not read what they asked for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SendLimit"]

_log = logging.getLogger("safesight")


class SendLimit:
    """ASGI middleware: each part of a response must be taken in time.

    A client that stops reading would otherwise hold its connection, and its answer in memory, for
    ever.

    Args:
        app: What answers.
        seconds: Time limit for one part.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a client that is too slow is disconnected."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def timed(message: Message) -> None:
            async with asyncio.timeout(self._seconds):
                await send(message)

        try:
            await self._app(scope, receive, timed)
        except TimeoutError:
            _log.info("A client did not read its answer and was cut off.")
