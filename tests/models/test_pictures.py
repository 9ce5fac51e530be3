from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from safesight.errors import InputError
from safesight.models.pictures import MAX_PIXELS, clean_messages, open_picture
from tests import tiny


def png_bytes(picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def header_only(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_the_same_picture_from_memory_a_path_and_bytes(tmp_path):
    picture = tiny.picture(0)
    path = tmp_path / "noise.png"
    picture.save(path)
    for source in (picture, path, str(path), path.read_bytes()):
        assert open_picture(source).tobytes() == picture.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_becomes_rgb(mode):
    picture = Image.new("L", (5, 4), 200)
    picture = Image.new(mode, (5, 4)) if mode == "I;16" else picture.convert(mode)
    assert open_picture(picture).mode == "RGB"


def test_transparency_is_white():
    assert open_picture(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0)) == (255,) * 3


def test_exif_rotation_is_applied(tmp_path):
    picture = Image.new("RGB", (6, 3))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (3, 6)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"not a picture", "format"),
        (png_bytes(tiny.picture(0))[:200], "damaged"),
        (header_only(60_000, 60_000), "too large"),
        (header_only(MAX_PIXELS // 1000 + 1, 1000), "too large"),
        (header_only(50_000, 100), "Crop it"),
        ("/nowhere/picture.png", "does not exist"),
        ("https://example.org/a.png", "download"),
        ("/", "folder"),
        (7, "PIL image"),
    ],
    ids=["noise", "torn", "bomb", "oversized", "stripe", "missing", "web", "folder", "number"],
)
def test_a_bad_picture_is_one_sentence(source, message):
    with pytest.raises(InputError, match=message) as caught:
        open_picture(source)
    assert "\n" not in str(caught.value)


def test_an_oversized_picture_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="too large"):
        open_picture(header_only(20_000, 20_000))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "hello",
        {"role": "user", "content": "hello"},
        ["hello"],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}],
        [{"role": "user", "content": [{"type": "image"}]}],
        [{"role": "user", "content": [{"type": "text", "text": 3}]}],
        [{"role": "user", "content": ["hello"]}],
    ],
)
def test_a_malformed_conversation_says_what_to_write(messages):
    with pytest.raises(InputError, match=r"content|message|list"):
        clean_messages(messages)


def test_content_never_reaches_an_error_message():
    with pytest.raises(InputError) as caught:
        clean_messages([{"role": "user", "content": [{"type": "txt", "text": "a secret"}]}])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_pictures_of_odd_shapes_are_answered_or_refused(family):
    for size in ((1, 1), (3, 1), (1, 60), (199, 1), (900, 40)):
        batch = [tiny.ask("x", tiny.picture(0, *size)), tiny.ask("y", tiny.picture(1))]
        if family == "mistral3" and max(size) > 60 and min(size) == 1:
            with pytest.raises(InputError, match="cannot take this conversation"):
                tiny.vlm(family).encode(batch)
        else:
            assert len(tiny.vlm(family).answer(batch, max_new_tokens=1)) == 2, size
