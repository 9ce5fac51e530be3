"""Who may call a server that is not ours: the same checks as `safesight serve` has.

vLLM checks a key only on some of its paths, and takes requests from pages of any site. It takes
the name of a class to put in front of everything, and gives it no arguments, so `Door` reads what
the operator decided from the environment.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from safesight.files import parsed
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
_CUTTING = ("truncate_prompt_tokens", "truncation_side")
_MARKS = ("bos_token", "eos_token")
"""Variables of a chat template that a client may not set."""


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
    """Refuses what takes a prompt past the chat template, where a defense is, or cuts it off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (
            scope["path"] in _CHAT and scope.get("method") != "POST"
        ):
            await self._app(scope, receive, send)
        elif scope["path"] not in _CHAT:
            body = error_body(
                "A defense of this server is in its chat template, so it takes chats alone. "
                "Send messages to /v1/chat/completions.",
                code="chat_only",
            )
            await JSONResponse(body, 404)(scope, receive, send)
        else:
            try:
                asked = await Request(scope, receive).body()
            except ClientDisconnect:
                return
            if name := _cutting(asked):
                body = error_body(
                    f"A defense of this server is in its chat template, which {name} would cut "
                    "off or change. Leave it out.",
                    code="chat_only",
                    param=name,
                )
                await JSONResponse(body, 400)(scope, receive, send)
            else:
                await self._app(scope, _again(asked, receive), send)


def _cutting(asked: bytes) -> str:
    """The field of a request that cuts or changes what the template writes; or nothing.

    A body that cannot be read has none: vLLM reads it no better.
    """
    try:
        body: Any = parsed(asked)
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    settings = body.get("chat_template_kwargs")
    own = settings if isinstance(settings, dict) else {}
    found = [name for name in _CUTTING if body.get(name) is not None]
    return next(iter([*found, *(name for name in _MARKS if name in own)]), "")


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, once more."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Any:
        return waiting.pop() if waiting else await receive()

    return read
