"""Limits on the body of a request: its size, the time to send it, and all bodies together.

The body is read here as a whole before anything else sees it, so that a client that is too slow or
sends too much never gets as far as the application. Pure ASGI; headers are left to uvicorn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from starlette.responses import JSONResponse

from safesight.server.errors import error_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimit"]

_CLOSE = {"Connection": "close"}
_DISCARDED = 4
"""How many times the limit is taken in and dropped before a client is cut off."""


class _TooLarge(Exception):
    """The body has more bytes than allowed."""


class _Full(Exception):
    """All bodies together have more bytes than allowed."""


class BodyLimit:
    """Answers with 413, 408 or 503 instead of an application that would get too much.

    Args:
        app: What answers otherwise.
        max_bytes: Maximum size of one body.
        seconds: Time limit for sending a body, from its first byte to its last.
        max_total_bytes: Maximum size of all bodies held at the same time; by default that of 16
            bodies.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int = 20_000_000,
        seconds: float = 30.0,
        max_total_bytes: int | None = None,
    ) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds
        self._max_total = 16 * max_bytes if max_total_bytes is None else max_total_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body within the limits, then let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body: bytes | None = None
        try:
            with anyio.fail_after(self._seconds):
                body = await self._read(scope, receive)
        except _TooLarge:
            message = f"The body has more than {self._max_bytes} bytes. Send smaller pictures."
            await _refuse(413, message, "request_too_large")(scope, receive, send)
        except _Full:
            message = "The server holds too many requests. Try again later."
            await _refuse(503, message, "overloaded")(scope, receive, send)
        except TimeoutError:
            message = (
                f"The body took more than {self._seconds:g} seconds to arrive. Send it faster."
            )
            await _refuse(408, message, "request_timeout")(scope, receive, send)
        if body is None:
            return
        try:
            await self._app(scope, _replay(body, receive), send)
        finally:
            self._held -= len(body)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body, whose bytes then count as held; None if the client has left."""
        announced, waits = _announced(scope)
        if announced > self._max_bytes:
            await self._discard(0 if waits else announced, receive)
            raise _TooLarge
        body = bytearray()
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self._held -= len(body)
                    return None
                chunk, more = message.get("body", b""), message.get("more_body", False)
                body += chunk
                self._held += len(chunk)
                if len(body) > self._max_bytes:
                    raise _TooLarge
                if self._held > self._max_total:
                    raise _Full
        except BaseException:
            self._held -= len(body)
            raise
        return bytes(body)

    async def _discard(self, size: int, receive: Receive) -> None:
        """Take in what is on its way, since most clients read an answer only after sending.

        Nothing is kept. A client that announces far too much, or waits for a permission to send,
        is answered at once.
        """
        if size > _DISCARDED * self._max_bytes:
            return
        while size > 0:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return
            size -= len(message.get("body", b""))


def _announced(scope: Scope) -> tuple[int, bool]:
    """What Content-Length says, and whether the client waits for a permission to send.

    The length is 0 if there is none or it makes no sense; then bytes count as they arrive.
    """
    headers = list(scope["headers"])
    values = [value for name, value in headers if name == b"content-length"]
    length = max((int(value[:20]) for value in values if value.isdigit()), default=0)
    return length, any(name == b"expect" for name, _ in headers)


def _replay(body: bytes, receive: Receive) -> Receive:
    """What gives the body once, and then whatever the server reports."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _refuse(status: int, message: str, code: str) -> JSONResponse:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    headers = _CLOSE | ({"Retry-After": "1"} if status == 503 else {})
    return JSONResponse(error_body(message, kind=kind, code=code), status, headers)
