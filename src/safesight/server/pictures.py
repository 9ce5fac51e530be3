"""The picture that a URL in a request stands for.

A `data:` URI holds its picture. URLs of the web are refused unless the operator lists hosts
(`downloads` says what is checked then). The size of a file is limited before it is decoded, and
its pixels before they are: a small file can unfold into gigabytes. Only the formats of OpenAI's
API are read; Pillow decodes icons while it opens them, before anyone can look at their size.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safesight.errors import InputError
from safesight.models.pictures import open_picture
from safesight.server.downloads import Origin, download
from safesight.server.workers import PICTURES

if TYPE_CHECKING:
    import httpcore
    from PIL import Image

__all__ = ["FORMATS", "PictureRules", "decode", "from_data_uri", "picture_of"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""The formats that are read, by Pillow's names."""
_HEADER = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64", re.IGNORECASE)
_HEADER_LENGTH = 64


@dataclass(frozen=True)
class PictureRules:
    """What a picture in a request may be."""

    origins: frozenset[Origin] = frozenset()
    """Hosts of the web that pictures are fetched from; see `downloads.allowed_origins`."""
    max_bytes: int = 10_000_000
    """Maximum size of a file."""
    max_pixels: int = 24_000_000
    """Maximum width times height."""
    seconds: float = 10.0
    """Time limit of one download."""


async def picture_of(
    url: str, rules: PictureRules, network: httpcore.AsyncNetworkBackend | None = None
) -> Image.Image:
    """The picture that a URL stands for, in RGB.

    Args:
        url: A `data:` URI, or a URL on a listed host.
        rules: What the picture may be.
        network: What connects; by default to public addresses only.

    Raises:
        InputError: the URL is refused, cannot be fetched, or is not a picture within the rules.
    """
    if url[:5].lower() == "data:":
        return await PICTURES.run(_inside, url, rules)
    if not rules.origins:
        raise InputError(
            "Pictures are not fetched from the web. Send the picture itself as a data: URI, such "
            "as data:image/png;base64,..."
        )
    content = await download(
        url,
        origins=rules.origins,
        max_bytes=rules.max_bytes,
        seconds=rules.seconds,
        network=network,
    )
    return await PICTURES.run(decode, content, rules.max_pixels)


def _inside(uri: str, rules: PictureRules) -> Image.Image:
    return decode(from_data_uri(uri, rules.max_bytes), rules.max_pixels)


def from_data_uri(uri: str, max_bytes: int) -> bytes:
    """The file inside a `data:` URI.

    Raises:
        InputError: it is not `data:image/...;base64,...`, or the file is too large.

    Example:
        >>> from_data_uri("data:image/png;base64,aGVsbG8=", max_bytes=10)
        b'hello'
    """
    header, comma, _ = uri[:_HEADER_LENGTH].partition(",")
    if not comma or not _HEADER.fullmatch(header):
        raise InputError(
            "A data: URI is not a picture in base64. Write it as data:image/png;base64,..."
        )
    encoded = uri[len(header) + 1 :]
    if len(encoded) > (max_bytes + 2) // 3 * 4:
        raise InputError(f"A picture has more than {max_bytes} bytes. Make it smaller.")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(
            "The picture in a data: URI is not valid base64. Encode it without line breaks, with "
            "the characters + and /, and with padding."
        ) from None
    if len(content) > max_bytes:
        raise InputError(f"A picture has more than {max_bytes} bytes. Make it smaller.")
    return content


def decode(content: bytes, max_pixels: int) -> Image.Image:
    """The picture in a file, in RGB, if it is in one of `FORMATS`.

    Raises:
        InputError: it is not a picture, is damaged, or has too many pixels.
    """
    return open_picture(content, formats=FORMATS, max_pixels=max_pixels)
