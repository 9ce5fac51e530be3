"""Fetches a file from the web for a stranger, from hosts that the operator listed and no other.

A server that fetches URLs can be made to reach into its own network. So:

- the scheme, the host and the port have to be listed, and a URL with credentials is refused;
- the name is resolved once, every address it has must be public (`addresses`), and the connection
  goes to an address that was checked: a name server that changes its mind changes nothing;
- redirects are refused, and proxies from the environment are not used;
- TLS is verified for the name in the URL;
- the whole download has a time limit, and its bytes are counted as they arrive. A compressed body
  is refused, since its size says nothing.

Whatever fails on the way to a host gives the same sentence, so that it tells nothing about names
and addresses inside the network.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import anyio
import httpcore
import httpx

from safesight import __version__
from safesight.errors import InputError
from safesight.server.addresses import is_public

if TYPE_CHECKING:
    import ssl

__all__ = ["Origin", "PublicNetwork", "allowed_origins", "download"]

_PORTS = {"https": 443, "http": 80}
_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+(?!\d+$|0x)[a-z0-9-]{2,63}")
"""A host name with a dot; a last part like a number would make it an IPv4 address."""
_FAILED = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    OSError,
    UnicodeError,
)
"""What resolving, connecting and reading raise."""
_SEND_IT = "Send the picture itself as a data: URI."


class Origin(NamedTuple):
    """Where a URL leads, apart from its path."""

    scheme: str
    host: str
    """In ASCII and lower case."""
    port: int


def allowed_origins(entries: Iterable[str]) -> frozenset[Origin]:
    """The origins that an operator lists.

    Args:
        entries: Host names for HTTPS on port 443, or URLs without a path, such as
            "http://pictures.example.org:8080".

    Raises:
        InputError: an entry is not a host with a name.

    Example:
        >>> sorted(allowed_origins(["example.org"]))
        [Origin(scheme='https', host='example.org', port=443)]
    """
    return frozenset(_listed(entry.strip()) for entry in entries)


def _listed(entry: str) -> Origin:
    try:
        url = httpx.URL(entry if "://" in entry else f"https://{entry}")
    except httpx.InvalidURL:
        url = httpx.URL()
    origin = _origin(url)
    bare = url.raw_path == b"/" and not url.userinfo and not url.fragment
    if (
        origin is None
        or not bare
        or not _NAME.fullmatch(origin.host)
        or not 0 < origin.port < 65536
    ):
        raise InputError(
            f"{entry!r} cannot be a host for pictures. Write a full name such as "
            "images.example.org, or http://images.example.org:8080 for another scheme or port."
        )
    return origin


def _origin(url: httpx.URL) -> Origin | None:
    """None for anything but HTTP and HTTPS with a host."""
    host = url.raw_host.decode("ascii")
    if url.scheme not in _PORTS or not host:
        return None
    return Origin(url.scheme, host, _PORTS[url.scheme] if url.port is None else url.port)


async def _resolve(host: str, port: int) -> list[str]:
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only.

    Args:
        resolve: Gives the addresses of a host.
        network: What connects to an address.
    """

    def __init__(
        self,
        resolve: Callable[[str, int], Awaitable[list[str]]] = _resolve,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._resolve = resolve
        self._network = network or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve a name, check all of its addresses, and connect to the first that answers.

        Raises:
            OSError: an address is not public, or there is none.
            httpcore.ConnectError: none answers.
        """
        addresses = await self._resolve(host, port)
        if not addresses or not all(map(is_public, addresses)):
            raise OSError("not a public address")
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(
            addresses[-1], port, timeout, local_address, socket_options
        )


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def download(
    address: str,
    *,
    origins: frozenset[Origin],
    max_bytes: int,
    seconds: float,
    network: httpcore.AsyncNetworkBackend | None = None,
) -> bytes:
    """The body that a URL on one of the listed hosts answers with.

    Args:
        address: The URL.
        origins: Where it may lead.
        max_bytes: Maximum size of the body.
        seconds: Time limit of the whole download.
        network: What connects; by default to public addresses only.

    Raises:
        InputError: the URL is refused, or cannot be fetched within the limits.
    """
    url = _checked(address, origins)
    target = httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
    headers = [
        (b"Host", url.netloc),
        (b"Accept", b"image/*"),
        (b"Accept-Encoding", b"identity"),
        (b"User-Agent", f"safesight/{__version__}".encode()),
    ]
    # A host may have an address that never answers; another one then still has its chance.
    timeout = {"connect": seconds / 3, "read": seconds, "write": seconds, "pool": seconds}
    try:
        with anyio.fail_after(seconds):
            async with (
                httpcore.AsyncConnectionPool(
                    ssl_context=_tls(), network_backend=network or PublicNetwork()
                ) as pool,
                pool.stream(
                    "GET", target, headers=headers, extensions={"timeout": timeout}
                ) as response,
            ):
                return await _body(response, url.host, max_bytes)
    except TimeoutError:
        raise InputError(
            f"The picture at {url.host} took more than {seconds:g} seconds. {_SEND_IT}"
        ) from None
    except _FAILED:
        raise InputError(f"The picture at {url.host} could not be fetched. {_SEND_IT}") from None


def _checked(address: str, origins: frozenset[Origin]) -> httpx.URL:
    """The URL as the library that connects reads it, so that nothing is read in two ways."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        raise InputError(f"The URL of a picture is malformed. {_SEND_IT}") from None
    if url.userinfo or "\\" in address or _origin(url) not in origins:
        raise InputError(f"Pictures are not fetched from where this URL leads. {_SEND_IT}")
    return url


async def _body(response: httpcore.Response, host: str, max_bytes: int) -> bytes:
    headers = {name.lower(): value for name, value in response.headers}
    if 300 <= response.status < 400:
        raise InputError(
            f"{host} redirects the picture to another place, which is not followed. {_SEND_IT}"
        )
    if response.status != 200:
        raise InputError(
            f"{host} answered with status {response.status} and no picture. {_SEND_IT}"
        )
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise InputError(f"{host} compresses the picture's file once more. {_SEND_IT}")
    too_large = InputError(
        f"The picture at {host} has more than {max_bytes} bytes. Make it smaller."
    )
    if int(headers.get(b"content-length", b"0")) > max_bytes:  # h11 has checked that it is a number
        raise too_large
    content = bytearray()
    async for chunk in response.aiter_stream():
        content += chunk
        if len(content) > max_bytes:
            raise too_large
    return bytes(content)
