from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import safesight
from safesight.errors import InputError
from safesight.models.pictures import MAX_PIXELS, clean_messages, open_picture
from tests import tiny


def png_bytes(picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def header_only(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_the_same_picture_from_memory_a_path_and_bytes(tmp_path):
    picture = tiny.picture(0)
    path = tmp_path / "noise.png"
    picture.save(path)
    for source in (picture, path, str(path), path.read_bytes()):
        assert open_picture(source).tobytes() == picture.tobytes()


MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode):
    grey = 255 if mode == "1" else 204  # a colour of the web palette
    picture = Image.new("RGB", (5, 4), (grey,) * 3)
    for step in {"La": ("LA",), "PA": ("P",), "RGBa": ("RGBA",)}.get(mode, ()):
        picture = picture.convert(step)
    found = open_picture(picture.convert(mode))
    assert (found.mode, found.size) == ("RGB", (5, 4))
    assert all(abs(value - grey) <= 1 for value in found.getpixel((2, 2)))


def ramp(dtype: str, white: int) -> np.ndarray:
    """From black to white, 256 pixels."""
    return (np.arange(256).reshape(8, 32) * (white / 255)).round().astype(dtype)


GREY = np.arange(256, dtype=np.uint8).reshape(8, 32)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


DEEP = {
    "I;16 in memory": lambda: Image.fromarray(ramp("uint16", 65535)),
    "I;16B in memory": lambda: Image.frombytes("I;16B", (32, 8), ramp(">u2", 65535).tobytes()),
    "png": lambda: saved(Image.fromarray(ramp("uint16", 65535)), "PNG"),
    "tiff": lambda: saved(Image.fromarray(ramp("uint16", 65535)), "TIFF"),
    "tiff, packed": lambda: saved(
        Image.fromarray(ramp("uint16", 65535)), "TIFF", compression="tiff_lzw"
    ),
    "tiff, big-endian": lambda: saved(
        Image.frombytes("I;16B", (32, 8), ramp(">u2", 65535).tobytes()), "TIFF"
    ),
    "tiff, white is zero": lambda: saved(
        Image.fromarray(65535 - ramp("uint16", 65535)), "TIFF", tiffinfo={262: 0}
    ),
    "pgm": lambda: saved(Image.fromarray(ramp("uint16", 65535)), "PPM"),
    "pgm of 10 bits": lambda: b"P5 32 8 1023 " + ramp(">u2", 1023).tobytes(),
    "jpeg 2000": lambda: saved(Image.fromarray(ramp("uint16", 65535)), "JPEG2000"),
}


@pytest.mark.parametrize("make", DEEP.values(), ids=DEEP)
def test_grey_of_more_than_eight_bits_is_scaled(make):
    found = np.asarray(open_picture(make()))
    assert np.abs(found.astype(int) - GREY[..., None]).max() <= 1


def png_of(bits: int, colour: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 8 x 8 pixels whose rows are all `row`, written by hand: Pillow writes 8 bits."""
    header = struct.pack(">IIBBBBB", 8, 8, bits, colour, 0, 0, 0)
    pixels = zlib.compress(8 * (b"\0" + row))
    parts = ((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("bits", "high"),  # bits above those of a pixel do not count
    [(1, 0), (2, 0), (4, 0), (8, 0), (2, 256), (4, 256), (8, 256)],
)
def test_a_transparent_grey_of_few_bits_is_white(bits, high):
    levels = 1 << bits
    level = levels // 3
    row = bytes([sum(level << shift for shift in range(0, 8, bits))]) * bits
    shown = level * 255 // (levels - 1)
    for clear in {0, level, levels - 1}:
        picture = png_of(bits, 0, row, (b"tRNS", struct.pack(">H", high + clear)))
        expected = 255 if clear == level else shown
        assert open_picture(picture).getpixel((3, 3)) == (expected,) * 3, clear


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_entry_of_a_palette_is_white(bits):
    colours = (b"PLTE", bytes([200, 100, 50, 1, 2, 3]))
    for entry, alpha, expected in ((0, 0, 255), (0, 255, 200), (1, 0, 1), (0, 128, 227)):
        row = bytes([sum(entry << shift for shift in range(0, 8, bits))]) * bits
        picture = png_of(bits, 3, row, colours, (b"tRNS", bytes([alpha])))
        assert abs(open_picture(picture).getpixel((3, 3))[0] - expected) <= 1


@pytest.mark.parametrize("high", [0, 256])
def test_a_transparent_colour_is_matched_in_every_channel(high):
    clear = (b"tRNS", struct.pack(">HHH", high + 200, 100, 50))
    for blue, expected in ((50, (255,) * 3), (51, (200, 100, 51))):
        picture = png_of(8, 2, bytes([200, 100, blue]) * 8, clear)
        assert open_picture(picture).getpixel((3, 3)) == expected


def test_a_transparent_grey_of_16_bits_is_white():
    deep = saved(Image.fromarray(np.full((4, 4), 300, np.uint16)), "PNG", transparency=300)
    assert open_picture(deep).getpixel((0, 0)) == (255,) * 3


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_values_of_unknown_range_are_refused(dtype):
    picture = Image.fromarray(np.ones((4, 4), dtype))
    for source in (picture, saved(picture, "TIFF")):
        with pytest.raises(InputError, match="8 bits"):
            open_picture(source)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_a_transparent_colour_is_white(mode):
    dark = {"1": 0, "L": 0, "RGB": (0, 0, 0), "P": 0}[mode]
    picture = Image.new(mode, (3, 3), dark)
    if mode == "P":
        picture.putpalette([0, 0, 0] + [9, 9, 9] * 255)
    assert open_picture(saved(picture, "PNG", transparency=dark)).getpixel((1, 1)) == (255,) * 3


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert open_picture(data).getpixel((0, 0)) == (255, 0, 0), kind


def test_no_file_starts_another_program(tmp_path, monkeypatch):
    """Whatever it is called: Pillow runs Ghostscript for EPS, even at the end of a lazy open."""
    eps = saved(Image.new("RGB", (4, 4)), "EPS")
    (tmp_path / "innocent.png").write_bytes(eps)
    lazy = Image.open(io.BytesIO(eps))
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program"))
    monkeypatch.setattr("PIL.EpsImagePlugin.has_ghostscript", lambda: True)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "gs")
    for source in (tmp_path / "innocent.png", eps, lazy):
        with pytest.raises(InputError, match="readable format"):
            open_picture(source)


def test_pictures_are_opened_in_one_place():
    package = Path(safesight.__file__).parent
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if "Image.open(" in file.read_text(encoding="utf-8")
    }
    own = {"testbed/styles.py", "testbed/sprites.py", "report/pictures.py"}  # the package's files
    assert found == {"models/pictures.py", *own}


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="pipe"):
        open_picture(tmp_path / "pipe.png")


def test_a_picture_may_have_another_name_than_its_file():
    with pytest.raises(InputError, match=r"cat\.png' is not in a readable format"):
        open_picture(b"no picture", "cat.png")


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
