"""What a URL in a request may stand for, without any network."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image

from safesight.errors import InputError
from safesight.server.pictures import FORMATS, PictureRules, decode, from_data_uri, picture_of


def encoded(kind: str = "PNG", size: tuple[int, int] = (4, 3)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind)
    return buffer.getvalue()


def uri(content: bytes, header: str = "data:image/png;base64") -> str:
    return f"{header},{base64.b64encode(content).decode()}"


def picture(url: str, rules: PictureRules | None = None) -> Image.Image:
    return asyncio.run(picture_of(url, rules or PictureRules()))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_data_uri_is_its_picture(kind: str) -> None:
    for header in (f"data:image/{kind.lower()};base64", "DATA:Image/PNG;BASE64"):
        found = picture(uri(encoded(kind), header))
        assert (found.mode, found.size) == ("RGB", (4, 3))


GOOD = base64.b64encode(encoded()).decode()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("data:,hello", "not a picture in base64"),
        ("data:text/html;base64,aGVsbG8=", "not a picture in base64"),
        (f"data:image/png,{GOOD}", "not a picture in base64"),
        (f"data:image/png;charset=utf-8;base64,{GOOD}", "not a picture in base64"),
        (f"data:;base64,{GOOD}", "not a picture in base64"),
        (f"data:image/{'x' * 50};base64,{GOOD}", "not a picture in base64"),
        ("data:image/png;base64", "not a picture in base64"),
        ("data:", "not a picture in base64"),
        (f"data:image/png;base64,{GOOD[:40]}\n{GOOD[40:]}", "not valid base64"),
        (f"data:image/png;base64,{GOOD[:-3]}", "not valid base64"),
        ("data:image/png;base64,ab-_", "not valid base64"),
        ("data:image/png;base64,ab%2Bd", "not valid base64"),
        ("data:image/png;base64,äöüß", "not valid base64"),
        ("data:image/png;base64,", "not in a readable format"),
        ("data:image/png;base64,aGVsbG8=", "not in a readable format"),
        (uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not in a readable format"),
        (uri(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not in a readable format"),
        (uri(encoded("BMP")), "not in a readable format"),
        (uri(encoded()[:-30]), "damaged"),
    ],
)
def test_anything_else_in_a_data_uri_is_refused(url: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        picture(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.png",
        "http://127.0.0.1/a.png",
        "//example.org/a.png",
        "file:///etc/passwd",
        "ftp://example.org/a.png",
        "javascript:alert(1)",
        "/etc/passwd",
        "",
    ],
)
def test_without_listed_hosts_nothing_but_data_is_taken(url: str) -> None:
    with pytest.raises(InputError, match="not fetched from the web"):
        picture(url)


def test_the_size_of_a_file_is_limited_before_it_is_decoded() -> None:
    content = bytes(1000)
    assert from_data_uri(uri(content), 1000) == content
    for limit in (999, 998, 997):
        with pytest.raises(InputError, match=f"more than {limit} bytes"):
            from_data_uri(uri(content), limit)
    huge = "data:image/png;base64," + "A" * 40_000_000
    tracemalloc.start()
    with pytest.raises(InputError, match="more than 1000 bytes"):
        from_data_uri(huge, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 45_000_000  # one copy of the text, and nothing decoded


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that unfolds into side x side pixels."""
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(1 + side // 8)) for _ in range(side)) + rows.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", packed)]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + body


def icon(png: bytes) -> bytes:
    """An icon that says it has 16 x 16 pixels, whatever the picture in it has."""
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(png), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + png


@pytest.mark.parametrize("wrapped", [False, True], ids=["png", "ico"])
def test_pixels_are_limited_before_they_are_decoded(
    wrapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    load = Image.core.new if hasattr(Image.core, "new") else None
    assert load is not None
    monkeypatch.setattr(Image.core, "new", lambda *args: decoded.append(args) or load(*args))
    content = bomb(9000)
    assert len(content) < 20_000
    with pytest.raises(
        InputError, match="too large" if not wrapped else "not in a readable format"
    ):
        decode(icon(content) if wrapped else content, max_pixels=80_000_000)
    assert not decoded
    assert decode(bomb(1000), max_pixels=1_000_000).size == (1000, 1000)
    assert decoded
    with pytest.raises(InputError, match=r"Make it smaller than 0\.999999 megapixels"):
        decode(bomb(1000), max_pixels=999_999)
