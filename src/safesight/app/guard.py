"""What the outside may ask of the page: the few addresses that it uses itself, and no others.

Gradio serves many more: a proxy, a file browser for other apps' files, pages that record and edit.
They do not exist here. In addition:

- a request that names another host than this one is refused, if the page is for this machine
  alone: another site could otherwise reach it under its own name;
- a request from another site's page is refused;
- a body has a size, and not more than a limit;
- a question is one that the page could have sent;
- a picture in it is one that was uploaded here: no address, and no other file;
- from one address, only so many wrong passwords are taken in a minute.

Every answer carries a content policy, under which the page can load nothing from elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from safesight.app.attempts import Attempts

__all__ = ["MAX_UPLOAD", "POLICY", "Guard"]

MAX_UPLOAD = 64_000_000
"""Bytes of one upload of pictures."""
_MAX_BODY = 1_000_000
_LARGE = (413, "The request is too large.")
_DIGITS = 12
"""The longest size that is read as a number."""
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_READ = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt|logout)/?"
    r"|/(assets|static)/.+"
    r"|/gradio_api/(info|app_id|startup-events|login_check|user|queue/data|upload_progress)/?"
    r"|/gradio_api/heartbeat/\w+"
)
_SENT = re.compile(r"/login/?|/gradio_api/(queue/join|upload|cancel|reset)/?")
_FILE = "/gradio_api/file="
_JOIN = "/gradio_api/queue/join"
_UPLOAD = "/gradio_api/upload"
_LOGIN = "/login"

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Gradio's page needs inline scripts and `eval`; nothing comes from another host."""
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI app in front of Gradio's.

    Args:
        app: What it guards.
        folder: Where uploads are.
        local: Whether the page is for this machine alone.
        known: Whether the page could have sent such a question.
    """

    def __init__(
        self,
        app: App,
        folder: Path,
        local: bool,
        known: Callable[[Any], bool] = lambda question: True,
    ) -> None:
        self.app, self.folder, self.local = app, folder.resolve(), local
        self._possible = known
        self._attempts = Attempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        fault = self._fault(scope)
        if fault is None and scope["path"].rstrip("/") == _JOIN:
            body = await _body(receive)
            fault = _LARGE if body is None else self._unclean(body)
            receive = _again(body or b"", receive)
        if fault is None and scope["path"].rstrip("/") == _LOGIN:
            fault, send = self._attempt(scope, send)
        if fault is not None:
            await _refuse(send, *fault)
            return
        await self.app(scope, receive, _with_policy(send))

    def _attempt(self, scope: Scope, send: Send) -> tuple[tuple[int, str] | None, Send]:
        """Why no password is taken now, and a `send` that sees whether one was right.

        Counted before it is compared: of many that come at once, none is compared for nothing.
        """
        address = (scope.get("client") or ("",))[0]
        if not self._attempts.take(address):
            return (429, "Too many passwords were tried. Wait a minute and try again."), send

        async def noted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self._attempts.give_back(address)
            await send(message)

        return None, noted

    def _fault(self, scope: Scope) -> tuple[int, str] | None:
        """Why a request is refused: a status and a sentence."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        try:
            name = urlsplit(f"//{host}").hostname
            asking = host if origin is None else urlsplit(origin).netloc
        except ValueError:
            return 400, "The address of the request cannot be read."
        if self.local and name not in _LOOPBACK:
            return 421, "This page is only for the machine that it runs on."
        if asking != host:
            return 403, "Another page may not ask here."
        if not self._known(scope["method"], scope["path"]):
            return 404, "There is no such page."
        if scope["method"] != "POST":
            return None
        size = headers.get(b"content-length", "")
        limit = MAX_UPLOAD if scope["path"].rstrip("/") == _UPLOAD else _MAX_BODY
        if not size.isdecimal() or b"transfer-encoding" in headers:  # which goes past the size
            return 411, "The size of the request is missing."
        return _LARGE if len(size) > _DIGITS or int(size) > limit else None

    def _known(self, method: str, path: str) -> bool:
        if method == "POST":
            return _SENT.fullmatch(path) is not None
        if method not in ("GET", "HEAD"):
            return False
        if path.startswith(_FILE):
            return self._ours(path.removeprefix(_FILE))
        return _READ.fullmatch(path) is not None

    def _unclean(self, body: bytes) -> tuple[int, str] | None:
        """Why a question is refused: a file that was not uploaded here, or its shape."""
        try:
            question = json.loads(body)
            if not all(map(self._ours, _paths(question))):
                return 400, "A picture has to be uploaded first."
        except (ValueError, RecursionError):
            return 400, "The question is not JSON."
        return None if self._possible(question) else (400, "The page does not ask like this.")

    def _ours(self, path: Any) -> bool:
        if not isinstance(path, str) or "\0" in path:
            return False
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.folder)


def _paths(value: Any) -> Iterator[Any]:
    """The paths of all files in what was sent."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        for each in value.values():
            yield from _paths(each)
    elif isinstance(value, list):
        for each in value:
            yield from _paths(each)


async def _body(receive: Receive) -> bytes | None:
    """A body; None if it is larger than it may be, whatever its headers said."""
    found = b""
    while len(found) <= _MAX_BODY:
        message = await receive()
        found += message.get("body", b"")
        if not message.get("more_body"):
            return found if len(found) <= _MAX_BODY else None
    return None


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, once more."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return read


def _with_policy(send: Send) -> Send:
    async def write(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return write


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
