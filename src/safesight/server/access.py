"""Who may call the server: API keys, and on loopback only programs and pages of this machine.

A server on loopback needs no key, since only programs of this machine reach it. So does a browser
on this machine, with whatever page it shows: a page may send requests to any address, and one
whose host name is made to point at 127.0.0.1 may read the answers as well. `LocalOnly` refuses
both. Everything is pure ASGI and runs before a body is read.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from safesight.errors import InputError
from safesight.server.addresses import is_loopback
from safesight.server.errors import error_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["MIN_KEY", "KeyCheck", "LocalOnly", "check_binding", "keys_of"]

MIN_KEY = 16
"""Shorter API keys are refused: they can be guessed."""
_KEY = re.compile(r"[!-~]+")
_SCHEME = re.compile(rb"^https?://")
_PLACE = re.compile(rb"([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", re.IGNORECASE)
"""A host and a port, as in a Host header."""

Headers = Iterable[tuple[bytes, bytes]]


def keys_of(text: str, where: str) -> tuple[str, ...]:
    """The API keys in a text, one per line; empty lines and lines that start with # do not count.

    Args:
        text: What a file or an environment variable holds.
        where: What error messages call it.

    Raises:
        InputError: there is no key, or one is too short or not of printable ASCII.
    """
    lines = [line.strip() for line in text.splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise InputError(f"{where} holds no API key. Write one key per line.")
    if not all(_KEY.fullmatch(key) and len(key) >= MIN_KEY for key in keys):
        raise InputError(
            f"An API key in {where} is too short or has spaces or letters outside ASCII. Use at "
            f"least {MIN_KEY} characters, such as those that `openssl rand -hex 32` prints."
        )
    return keys


def check_binding(host: str, keys: Collection[str]) -> None:
    """Refuse to listen on anything but loopback without an API key.

    Raises:
        InputError: others could reach the server, and there is no key.

    Example:
        >>> check_binding("127.0.0.1", [])
    """
    if not keys and not is_loopback(host):
        raise InputError(
            f"On {host or 'every address'} others can reach the server. Set an API key with "
            "--api-key-file or SAFESIGHT_API_KEY, or use --host 127.0.0.1."
        )


class KeyCheck:
    """Lets through requests with an API key, and those to a few open paths.

    The key is sent as `Authorization: Bearer KEY`, or as `x-api-key: KEY`, which is what LiteLLM
    sends to a guardrail. Keys are compared by digest in constant time, each one with every key.

    Args:
        app: What answers.
        keys: The keys; at least one.
        open_paths: Paths that need no key, compared exactly.
    """

    def __init__(
        self, app: ASGIApp, keys: Sequence[str], open_paths: Collection[str] = ("/health",)
    ) -> None:
        if not keys:
            raise ValueError("a check without keys lets nobody in")
        self._app, self._open = app, frozenset(open_paths)
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 401 unless a key is right."""
        if scope["type"] == "lifespan" or scope["path"] in self._open or self._known(scope):
            await self._app(scope, receive, send)
            return
        body = error_body(
            "The API key is missing or wrong. Send it as 'Authorization: Bearer KEY'.",
            code="invalid_api_key",
        )
        await JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        known = False
        for given in map(_digest, _given_keys(scope["headers"])):
            for digest in self._digests:
                known |= hmac.compare_digest(given, digest)
        return known


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _given_keys(headers: Headers) -> Iterator[bytes]:
    for name, value in headers:
        if name == b"x-api-key":
            yield value.strip()
        elif name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                yield key.strip()


class LocalOnly:
    """Refuses requests that a page of another site makes a browser on this machine send.

    The `Host` header has to be this machine's, and so has `Origin` where a browser sends it.
    It is for a server on loopback without keys.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 403 unless host and origin are this machine."""
        if scope["type"] == "lifespan" or _is_local(scope["headers"]):
            await self._app(scope, receive, send)
            return
        body = error_body(
            "Without an API key this server answers to localhost only. Call it by that name, not "
            "from a page of another site.",
            code="host_not_allowed",
        )
        await JSONResponse(body, 403)(scope, receive, send)


def _is_local(headers: Headers) -> bool:
    found = list(headers)
    hosts = [value for name, value in found if name == b"host"]
    origins = [value for name, value in found if name == b"origin"]
    places = [*hosts, *(_SCHEME.sub(b"", origin) for origin in origins)]
    return len(hosts) == 1 and all(map(_names_loopback, places))


def _names_loopback(place: bytes) -> bool:
    match = _PLACE.fullmatch(place)
    return match is not None and is_loopback(match[1].decode("ascii"))
