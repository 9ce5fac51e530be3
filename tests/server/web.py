"""A small web server on loopback, and a network that leads every connection to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpcore

from safesight.server.downloads import PublicNetwork

Handler = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Web:
    """What the server is asked and where connections were to go."""

    def __init__(self, addresses: list[list[str]]) -> None:
        self.addresses = addresses
        """What the name server answers, call by call; the last one stays."""
        self.resolved: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.requests: list[str] = []
        self.tls: list[tuple[str | None, ssl.SSLContext]] = []
        self.network = PublicNetwork(self._resolve, _Loopback(self))
        self.port = 0
        self.dead: set[str] = set()
        """Addresses that nothing answers on."""

    async def _resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        return self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]


class _Loopback(httpcore.AsyncNetworkBackend):
    def __init__(self, web: Web) -> None:
        self._web = web

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        self._web.connected.append((host, port))
        if host in self._web.dead:
            raise httpcore.ConnectError("nobody there")
        stream = await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self._web.port)
        return _Stream(self._web, stream)


class _Stream(httpcore.AsyncNetworkStream):
    """Notes for whom TLS would be verified, and goes on in plain text."""

    def __init__(self, web: Web, stream: httpcore.AsyncNetworkStream) -> None:
        self._web, self._stream = web, stream
        self.read, self.write, self.aclose = stream.read, stream.write, stream.aclose

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> httpcore.AsyncNetworkStream:
        self._web.tls.append((server_hostname, ssl_context))
        return self


@asynccontextmanager
async def web(answer: bytes | Handler, *addresses: list[str]) -> AsyncIterator[Web]:
    """A server that gives every request the same answer."""
    found = Web(list(addresses) or [["93.184.216.34"]])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            found.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """An HTTP answer; `length` may lie."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
