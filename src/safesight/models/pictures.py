"""Check pictures and chat turns from users before a processor sees them.

Turns the content of a message into RGB pictures and text, or says what is wrong with it. Knows
nothing about models. Downloads nothing: fetch pictures from the web yourself.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from safesight.errors import InputError
from safesight.types import Message

__all__ = ["MAX_ASPECT", "MAX_PIXELS", "clean_messages", "open_picture"]

MAX_PIXELS = 64_000_000
"""Larger pictures are refused: 64 megapixels are 192 MB once decoded."""
MAX_ASPECT = 200
"""Longest side divided by shortest side; Qwen's processors refuse more."""


def open_picture(source: Any) -> Image.Image:
    """An RGB picture from a PIL image, a path, or the bytes of a picture file.

    The picture is rotated according to its EXIF data; transparency becomes white.

    Raises:
        InputError: missing, damaged, oversized, or not a picture; the message names the file.

    Example:
        >>> open_picture(Image.new("L", (4, 3))).mode
        'RGB'
    """
    name = "The picture"
    try:
        # Opening is lazy: the size is checked before a single pixel is decoded.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if isinstance(source, (str, Path)):
                name = f"The picture {str(source)!r}"
                _refuse_web(str(source))
                picture: Image.Image = Image.open(os.path.expanduser(source))
            elif isinstance(source, (bytes, bytearray)):
                picture = Image.open(io.BytesIO(source))
            elif isinstance(source, Image.Image):
                picture = source
            else:
                raise InputError(
                    f"A picture has the type {type(source).__name__}. Pass a PIL image, the path "
                    "of a picture file, or its bytes."
                )
            _refuse_size(name, *picture.size)
            picture = ImageOps.exif_transpose(picture)
            return _to_rgb(picture)
    except FileNotFoundError:
        raise InputError(f"{name} does not exist. Check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{name} is a folder. Pass the path of a picture file.") from None
    except PermissionError:
        raise InputError(f"{name} may not be read. Change its permissions.") from None
    except UnidentifiedImageError:
        raise InputError(f"{name} is not in a readable format. Save it as PNG or JPEG.") from None
    except Image.DecompressionBombError:
        raise InputError(f"{name} is far too large. Make it smaller than {_LIMIT}.") from None
    except (OSError, SyntaxError, ValueError) as error:  # how Pillow reports damaged files
        raise InputError(f"{name} is damaged ({error}). Use an intact copy.") from None


_LIMIT = f"{MAX_PIXELS // 1_000_000} megapixels"


def _refuse_web(source: str) -> None:
    if source.startswith(("http://", "https://")):
        raise InputError(f"safesight does not download pictures. Download {source!r} first.")


def _refuse_size(name: str, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise InputError(f"{name} is empty ({width} x {height} pixels). Use another one.")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} has {width} x {height} pixels, which is too large. "
            f"Make it smaller than {_LIMIT}."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(
            f"{name} has {width} x {height} pixels: one side is more than {MAX_ASPECT} times the "
            "other. Crop it."
        )


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        picture.load()
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
