"""Open pictures from users, and check chat turns, before a processor sees them.

Every picture file of the package is opened here, except the testbed's own. Only common formats
are read, since Pillow starts another program for some of the rest (Ghostscript for EPS), whatever
a file is called. Knows nothing about models. Downloads nothing: fetch pictures from the web
yourself.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from safesight.errors import InputError
from safesight.types import Message

__all__ = ["FORMATS", "MAX_ASPECT", "MAX_PIXELS", "clean_messages", "open_picture"]

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are read, by Pillow's names. Icons are not: Pillow decodes the picture in one
before its size can be checked."""
MAX_PIXELS = 64_000_000
"""Larger pictures are refused: 64 megapixels are 192 MB once decoded."""
MAX_ASPECT = 200
"""Longest side divided by shortest side; Qwen's processors refuse more."""

_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What Pillow raises for damaged files."""
_PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}
_PNG_BITS = {"L;2": 2, "L;4": 4, "L": 8, "RGB": 8}
"""The bits of a channel, by Pillow's raw modes."""
_PHOTOMETRIC, _BITS = 262, 258
"""TIFF tags."""


def open_picture(
    source: Any,
    name: str | int = "",
    *,
    formats: tuple[str, ...] = FORMATS,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """An RGB picture from a PIL image, a path, or the bytes of a picture file.

    The picture is rotated according to its EXIF data; transparency becomes white; 16-bit grey
    becomes 8-bit grey. An animation is its first frame.

    Args:
        source: The PIL image, path or bytes.
        name: What error messages call the picture, such as its number; a path by default.
        formats: The formats of a file that are read, out of `FORMATS`.
        max_pixels: Refuse more pixels than this, before they are decoded.

    Raises:
        InputError: missing, damaged, oversized, of unknown range, or not a picture; the message
            names the file.

    Example:
        >>> open_picture(Image.new("L", (4, 3))).mode
        'RGB'
    """
    named = name or (str(source) if isinstance(source, (str, Path)) else "")
    title = f"The picture {named!r}" if named else "The picture"
    if isinstance(name, int):
        title = f"Picture {name}"
    try:
        # Opening is lazy: the size is checked before a single pixel is decoded. Pillow warns of
        # sizes and of odd metadata; what matters of either is an error below.
        with warnings.catch_warnings(), ExitStack() as files:
            warnings.simplefilter("ignore")
            picture = _opened(source, title, formats, files)
            _refuse_size(title, *picture.size, max_pixels)
            grey = _grey_range(title, picture)
            clear = _transparent_colour(picture)
            turned = _upright(picture)
            turned.info.update({} if clear is None else {"transparency": clear})
            return _to_rgb(turned if grey is None else _to_eight_bits(turned, *grey))
    except FileNotFoundError:
        raise InputError(f"{title} does not exist. Check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{title} is a folder. Pass the path of a picture file.") from None
    except PermissionError:
        raise InputError(f"{title} may not be read. Change its permissions.") from None
    except UnidentifiedImageError:
        raise InputError(f"{title} is not in a readable format. Save it as PNG or JPEG.") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{title} is far too large. Make it smaller than {_megapixels(max_pixels)}."
        ) from None
    except _DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{title} is damaged ({reason}). Use an intact copy.") from None


def _opened(source: Any, title: str, formats: tuple[str, ...], files: ExitStack) -> Image.Image:
    """The picture, not decoded yet, in one of the known formats; `files` closes what it opens."""
    if isinstance(source, (str, Path)):
        if str(source).startswith(("http://", "https://")):
            raise InputError(
                f"safesight does not download pictures. Download {str(source)!r} first."
            )
        path = Path(os.path.expanduser(source))  # leaves the name of an unknown user as it is
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{title} is a device or a pipe. Pass a picture file.")
        return Image.open(files.enter_context(path.open("rb")), formats=formats)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Image.open(io.BytesIO(source), formats=formats)
    if isinstance(source, Image.Image):
        pending = getattr(source, "tile", None)  # empty once the file is decoded
        if pending and source.format not in (*formats, "MPO"):
            raise UnidentifiedImageError
        return source
    raise InputError(
        f"A picture has the type {type(source).__name__}. Pass a PIL image, the path of a picture "
        "file, or its bytes."
    )


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1_000_000:g} megapixels"


def _refuse_size(title: str, width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise InputError(f"{title} is empty ({width} x {height} pixels). Use another one.")
    if width * height > max_pixels:
        raise InputError(
            f"{title} has {width} x {height} pixels, which is too large. "
            f"Make it smaller than {_megapixels(max_pixels)}."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(
            f"{title} has {width} x {height} pixels: one side is more than {MAX_ASPECT} times the "
            "other. Crop it."
        )


def _grey_range(title: str, picture: Image.Image) -> tuple[int, int] | None:
    """The values of black and white in a picture of more than 8 bits; None if there are 8.

    Pillow itself cuts such values off at 255.
    """
    tags = getattr(picture, "tag_v2", {})
    if picture.mode.startswith("I;16"):
        white = 4095 if tags.get(_BITS) == (12,) else 65535
        return (white, 0) if tags.get(_PHOTOMETRIC) == 0 else (0, white)
    if picture.mode == "I" and picture.format == "PPM":
        return 0, 65535
    if picture.mode in ("I", "F"):
        kind = "32-bit integers" if picture.mode == "I" else "floating-point numbers"
        raise InputError(
            f"{title} holds {kind}, so it is not known which are black and white. "
            "Scale it to 8 bits and save it as PNG."
        )
    tile = (getattr(picture, "tile", None) or [None])[0]
    if tile is not None and tile[3] == "RGB;16B" and "transparency" in picture.info:
        raise InputError(
            f"{title} has 16 bits a channel and a transparent colour. Save it with 8 bits."
        )
    return None


def _transparent_colour(picture: Image.Image) -> int | tuple[int, ...] | None:
    """The transparent colour of a PNG on the scale of its pixels; None if there is none to change.

    Pillow scales grey of 2 and 4 bits to 8, and leaves this colour as the file has it. By the
    format, bits above those of the pixels do not count.
    """
    tile = (getattr(picture, "tile", None) or [None])[0]
    bits = _PNG_BITS.get(tile[3]) if tile is not None and picture.format == "PNG" else None
    colour = picture.info.get("transparency")
    if bits is None or not isinstance(colour, int | tuple):
        return None
    white = (1 << bits) - 1
    scaled = [(level & white) * 255 // white for level in np.atleast_1d(colour).tolist()]
    return tuple(scaled) if isinstance(colour, tuple) else scaled[0]


def _upright(picture: Image.Image) -> Image.Image:
    """A copy, decoded and rotated according to its EXIF data, or as it is if those are damaged."""
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except _DAMAGED:
        return picture.copy()


def _to_eight_bits(picture: Image.Image, black: int, white: int) -> Image.Image:
    """Grey of 16 bits as grey of 8 bits, on white."""
    levels = np.arange(65536)
    share = (levels - black) / (white - black)
    table = (share.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        table[clear] = 255
    return Image.fromarray(table[np.asarray(picture).clip(0, 65535)])


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in _PREMULTIPLIED:
        picture = picture.convert(_PREMULTIPLIED[picture.mode])
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def clean_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A copy of a conversation that every chat template accepts, with its pictures opened.

    Content given as a string becomes one text part; parts keep their order.

    Raises:
        InputError: an empty conversation, a malformed turn or part, or an unusable picture.

    Example:
        >>> clean_messages([{"role": "user", "content": "hello"}])
        [{'role': 'user', 'content': [{'type': 'text', 'text': 'hello'}]}]
    """
    if isinstance(messages, (str, Mapping)) or not messages:
        raise InputError(
            "A conversation is a list of messages such as "
            '{"role": "user", "content": "..."}. To ask one question, put that message in a list.'
        )
    return [_clean_message(message) for message in messages]


def _clean_message(message: Message) -> dict[str, Any]:
    if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
        raise InputError(
            f"A message needs a role and a content, but one has {_shape(message)}. "
            'Write it as {"role": "user", "content": "..."}.'
        )
    content = message["content"]
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, Sequence):
        raise InputError(
            f"The content of a message is {type(content).__name__}. Pass text or a list of parts."
        )
    return {**message, "content": [_clean_part(part) for part in content]}


def _clean_part(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "image":
        source = next((part[key] for key in ("image", "path", "url") if key in part), None)
        if source is not None:
            return {"type": "image", "image": open_picture(source)}
    raise InputError(
        f"A message has a part with {_shape(part)}. safesight takes "
        '{"type": "text", "text": "..."} and {"type": "image", "image": picture}.'
    )


def _shape(value: Any) -> str:
    """Describe a value without its content (which may be harmful)."""
    if not isinstance(value, Mapping):
        return f"the type {type(value).__name__}"
    kind = f" and the type {value['type']!r}" if "type" in value else ""
    return f"the keys {', '.join(map(str, value))}{kind}" if value else "no keys"
