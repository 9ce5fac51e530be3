"""Who may call a server that is not ours: the same checks as `safesight serve` has.

vLLM checks a key only on some of its paths, and takes requests from pages of any site. It takes
the name of a class to put in front of everything, and gives it no arguments, so `Door` reads what
the operator decided from the environment.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from safesight.server.access import KeyCheck, LocalOnly, keys_of
from safesight.server.errors import error_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["CHAT_ONLY", "KEYS", "Door"]

KEYS = "SAFESIGHT_API_KEY"
"""The variable with the API keys, one a line; without one only this machine may call."""
CHAT_ONLY = "SAFESIGHT_CHAT_ONLY"
"""The variable that, when set, closes every path but those of chats."""

_CHAT = (
    "/v1/chat/completions",
    "/v1/models",
    "/health",
    "/metrics",
    "/ping",
    "/version",
)


class Door:
    """Lets through what the operator allows.

    Args:
        app: What answers.

    Raises:
        InputError: a key is too short.
    """

    def __init__(self, app: ASGIApp) -> None:
        inner = _ChatOnly(app) if CHAT_ONLY in os.environ else app
        keys = keys_of(os.environ[KEYS], KEYS) if KEYS in os.environ else ()
        self._app: ASGIApp = KeyCheck(inner, keys) if keys else LocalOnly(inner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with 401, 403 or 404."""
        await self._app(scope, receive, send)


class _ChatOnly:
    """Refuses paths that take a prompt past the chat template, where a defense is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in _CHAT:
            await self._app(scope, receive, send)
            return
        body = error_body(
            "A defense of this server is in its chat template, so it takes chats alone. "
            "Send messages to /v1/chat/completions.",
            code="chat_only",
        )
        await JSONResponse(body, 404)(scope, receive, send)
