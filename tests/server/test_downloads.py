"""Pictures of the web: from listed hosts, from public addresses, within limits, and no other."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from typing import Any

import pytest
from PIL import Image

from safesight.errors import InputError
from safesight.server.downloads import Origin, allowed_origins, download
from safesight.server.pictures import PictureRules, picture_of
from tests.server.test_pictures import encoded
from tests.server.web import Handler, Web, answer, web

LISTED = ("pictures.example.org", "http://plain.example.org", "https://port.example.org:8443")
URL = "https://pictures.example.org/a.png?size=1"
PNG = answer(encoded(), "Content-Type: image/png")


def fetch(
    url: str = URL, reply: bytes | Handler = PNG, *addresses: list[str], **rules: Any
) -> tuple[Image.Image | str, Web]:
    """The picture or the sentence that refuses it, and what happened on the network."""

    async def run() -> tuple[Image.Image | str, Web]:
        async with web(reply, *addresses) as found:
            try:
                settings = PictureRules(allowed_origins(LISTED), **rules)
                return await picture_of(url, settings, found.network), found
            except InputError as error:
                return str(error), found

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "port", "host"),
    [
        (URL, 443, "pictures.example.org"),
        ("HTTPS://Pictures.Example.ORG/a.png", 443, "pictures.example.org"),
        ("https://pictures.example.org:443/", 443, "pictures.example.org"),
        ("http://plain.example.org/a.png", 80, "plain.example.org"),
        ("https://port.example.org:8443/a.png#part", 8443, "port.example.org:8443"),
    ],
)
def test_a_listed_host_is_asked_at_the_address_that_was_checked(
    url: str, port: int, host: str
) -> None:
    found, seen = fetch(url)
    assert isinstance(found, Image.Image)
    assert found.size == (4, 3)
    assert seen.connected == [("93.184.216.34", port)]
    assert f"\r\nHost: {host}\r\n" in seen.requests[0]
    if url.lower().startswith("https"):
        ((name, context),) = seen.tls
        assert name == host.partition(":")[0]
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
    else:
        assert seen.tls == []


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.org/a.png",
        "https://pictures.example.org.evil.org/",
        "https://sub.pictures.example.org/",
        "http://pictures.example.org/",  # the scheme is not listed
        "https://plain.example.org/",
        "https://pictures.example.org:8443/",  # the port is not listed
        "https://pictures.example.org:0/",
        "https://port.example.org/",
        "https://pictures.example.org./",
        "https://pictures.example.org@evil.org/",
        "https://user:word@pictures.example.org/",
        "https://pictures.example.org\\@evil.org/",
        "https://evil.org\\@pictures.example.org/",
        "https://evil.org#@pictures.example.org/",
        "https://evil.org?@pictures.example.org/",
        "https://pictures.example.org%2f@evil.org/",
        "https://pictures.example.org%00.evil.org/",
        "https://pictures.ex\u0430mple.org/",  # a Cyrillic letter
        "https://pictures.example.org\n.evil.org/",
        " https://pictures.example.org/",
        "//pictures.example.org/a.png",
        "https:pictures.example.org",
        "https:///a.png",
        "file://pictures.example.org/etc/passwd",
        "ftp://pictures.example.org/a.png",
        "gopher://pictures.example.org/",
        "javascript:alert(1)",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://169.254.169.254/latest/meta-data/",
        "not a url",
        "",
    ],
)
def test_nothing_but_listed_origins_is_even_resolved(url: str) -> None:
    found, seen = fetch(url)
    assert isinstance(found, str)
    assert "data: URI" in found
    assert (seen.resolved, seen.connected) == ([], [])


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::a00:1"],
        ["2002:a00:1::"],
        ["93.184.216.34", "10.0.0.1"],
        [],
    ],
    ids=str,
)
def test_a_listed_name_may_not_lead_into_a_network_of_ours(addresses: list[str]) -> None:
    found, seen = fetch(URL, PNG, addresses)
    assert seen.connected == []
    nobody, _ = fetch(URL, b"")
    assert found == nobody  # the same sentence as for a host that does not answer


def test_a_name_server_that_changes_its_mind_changes_nothing() -> None:
    found, seen = fetch(URL, PNG, ["93.184.216.34"], ["127.0.0.1"])
    assert isinstance(found, Image.Image)
    assert seen.resolved == ["pictures.example.org"]
    assert seen.connected == [("93.184.216.34", 443)]


def test_another_address_is_tried_if_one_is_dead() -> None:
    async def run() -> Web:
        async with web(PNG, ["2606:4700::1", "93.184.216.34"]) as found:
            found.dead = {"2606:4700::1"}
            await picture_of(URL, PictureRules(allowed_origins(LISTED)), found.network)
            return found

    seen = asyncio.run(run())
    assert seen.connected == [("2606:4700::1", 443), ("93.184.216.34", 443)]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Again", "308 Moved", "304 Same"])
def test_redirects_are_not_followed(status: str) -> None:
    for place in ("http://127.0.0.1/", "https://pictures.example.org/b.png", "file:///etc/passwd"):
        found, seen = fetch(URL, answer(encoded(), f"Location: {place}", status=status))
        assert "redirects" in str(found)
        assert len(seen.requests) == len(seen.connected) == 1


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    found, seen = fetch()
    assert isinstance(found, Image.Image)
    assert seen.connected == [("93.184.216.34", 443)]


async def _endless(writer: Any) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"400\r\n" + bytes(1024) + b"\r\n")
        await writer.drain()


async def _dripping(writer: Any) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _dripping_headers(writer: Any) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


TOO_LARGE = encoded(size=(200, 200))


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answer(bytes(5000)), "more than 400 bytes"),
        (answer(b"x", length=5000), "more than 400 bytes"),
        (answer(b"x", length=10**30), "could not be fetched"),
        (_endless, "more than 400 bytes"),
        (answer(bytes(5000), length=10), "readable format"),  # what exceeds the length is dropped
        (answer(b"x", length=300), "could not be fetched"),
        (answer(gzip.compress(encoded()), "Content-Encoding: gzip"), "compresses"),
        (answer(b"<html>", status="200 OK"), "readable format"),
        (answer(encoded(), status="404 Not Found"), "status 404"),
        (answer(encoded(), status="206 Partial Content"), "status 206"),
        (b"", "could not be fetched"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "could not be fetched"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "could not be fetched"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n", "could not be fetched"),
    ],
    ids=range(14),
)
def test_an_answer_that_is_too_much_or_wrong_is_refused(reply: bytes | Handler, why: str) -> None:
    found, _ = fetch(URL, reply, max_bytes=400)
    assert why in str(found)


@pytest.mark.parametrize("reply", [_dripping, _dripping_headers])
def test_a_slow_host_is_given_up(reply: Handler) -> None:
    started = time.monotonic()
    found, _ = fetch(URL, reply, seconds=0.3)
    assert "took more than 0.3 seconds" in str(found)
    assert time.monotonic() - started < 3


def test_a_name_server_that_does_not_answer_is_given_up() -> None:
    async def run() -> str:
        async with web(PNG) as found:

            async def never(host: str, port: int) -> list[str]:
                await asyncio.sleep(60)
                return []

            found.network._resolve = never
            with pytest.raises(InputError) as refused:
                await download(
                    URL,
                    origins=allowed_origins(LISTED),
                    max_bytes=10,
                    seconds=0.2,
                    network=found.network,
                )
            return str(refused.value)

    assert "took more than 0.2 seconds" in asyncio.run(run())


def test_by_default_only_public_addresses_are_connected_to() -> None:
    async def run() -> tuple[str, list[str]]:
        async with web(PNG) as found:
            local = Origin("http", "localhost", found.port)
            with pytest.raises(InputError) as refused:
                await download(
                    f"http://localhost:{found.port}/a.png",
                    origins=frozenset({local}),
                    max_bytes=1000,
                    seconds=5,
                )
            return str(refused.value), found.requests

    sentence, requests = asyncio.run(run())
    assert "could not be fetched" in sentence
    assert requests == []


def test_the_list_is_read_as_urls_are() -> None:
    assert allowed_origins(["Bücher.example", " http://A.example.org:80/ "]) == {
        Origin("https", "xn--bcher-kva.example", 443),
        Origin("http", "a.example.org", 80),
    }


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.example.org",
        "localhost",
        "127.0.0.1",
        "2130706433",
        "0x7f.0x1",
        "127.1",
        "[::1]",
        "https://",
        "ftp://example.org",
        "https://example.org/folder",
        "https://example.org?x",
        "https://example.org#x",
        "user@example.org",
        "example.org.",
        "https://ex ample.org",
        "example.org\n",
        "https://example.org:99999999",
        "https://example.org:0",
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused_at_once(entry: str) -> None:
    if entry.strip() != entry:
        entry = f"a{entry}b"
    with pytest.raises(InputError, match="cannot be a host for pictures"):
        allowed_origins([entry])
