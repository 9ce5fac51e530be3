"""The styles in which the things of the bundled world are drawn: whose pictograms, what licence.

A style is a sheet of sprites, one cell for each thing in the order of `concepts`. Some sets are
older than some things; a cell without a drawing is empty. `sprites` builds the sheets.

The bundled weights were trained on `STYLES`. `MORE` is for training an eye on further styles, and
so is `FURTHER`, which draws about half of the things. `FOREIGN` is for measuring only: nothing here
is ever trained on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from safesight.errors import InputError, UnknownNameError, reason_of
from safesight.testbed.concepts import CONCEPTS, concept

__all__ = [
    "ASSETS",
    "CATALOGUE",
    "COLUMNS",
    "FOREIGN",
    "FURTHER",
    "MORE",
    "SPRITE",
    "STYLES",
    "Style",
    "drawn",
    "draws",
    "sprite",
]

ASSETS = Path(__file__).parent / "assets"
SPRITE = 64
"""Sprites are SPRITE x SPRITE pixels."""
COLUMNS = 16


@dataclass(frozen=True)
class Style:
    """Where a sheet's pictures come from."""

    title: str
    author: str
    licence: str
    """As SPDX spells it."""
    package: str
    """The npm package and its version."""
    pictures: str
    """The folder of PNG files in the package, or its file of icons."""


_ICONS = "icons.json"
CATALOGUE = {
    "noto": Style(
        "Noto emoji", "Google", "Apache-2.0", "emoji-datasource-google@16.0.0", "img/google/64"
    ),
    "twemoji": Style(
        "Twemoji",
        "X Corp. and contributors",
        "CC-BY-4.0",
        "emoji-datasource-twitter@16.0.0",
        "img/twitter/64",
    ),
    "fluent": Style(
        "Fluent emoji, in colour", "Microsoft", "MIT", "@iconify-json/fluent-emoji@1.2.7", _ICONS
    ),
    "fluent_flat": Style(
        "Fluent emoji, flat", "Microsoft", "MIT", "@iconify-json/fluent-emoji-flat@1.2.6", _ICONS
    ),
    "fluent_line": Style(
        "Fluent emoji, high contrast",
        "Microsoft",
        "MIT",
        "@iconify-json/fluent-emoji-high-contrast@1.2.6",
        _ICONS,
    ),
    "noto_v1": Style(
        "Noto emoji of 2016", "Google", "Apache-2.0", "@iconify-json/noto-v1@1.2.5", _ICONS
    ),
    "fxemoji": Style("FxEmojis", "Mozilla", "Apache-2.0", "@iconify-json/fxemoji@1.2.2", _ICONS),
    "streamline": Style(
        "Streamline emojis",
        "Streamline",
        "CC-BY-4.0",
        "@iconify-json/streamline-emojis@1.2.4",
        _ICONS,
    ),
    "emojione": Style(
        "EmojiOne 2.3", "EmojiOne", "CC-BY-4.0", "@iconify-json/emojione@1.2.3", _ICONS
    ),
    "openmoji": Style(
        "OpenMoji",
        "HfG Schwäbisch Gmünd and contributors",
        "CC-BY-SA-4.0",
        "@iconify-json/openmoji@1.2.29",
        _ICONS,
    ),
}
STYLES = ("noto", "twemoji")
MORE = ("fluent", "fluent_flat", "fluent_line", "noto_v1")
FURTHER = ("fxemoji", "streamline")
FOREIGN = ("emojione", "openmoji")


@cache
def drawn(style: str) -> frozenset[str]:
    """The names of the things that a style draws.

    Example:
        >>> len(drawn("noto")), "saw" in drawn("emojione")
        (188, False)
    """
    return frozenset(c.name for c in CONCEPTS if _cell(c.index, style).getbbox() is not None)


def draws(styles: Sequence[str], name: str) -> list[str]:
    """Those of the styles that draw a thing, in the same order."""
    return [style for style in styles if name in drawn(style)]


@cache
def sprite(name: str, style: str) -> Image.Image:
    """The drawing of a thing, on a transparent ground."""
    return _cell(concept(name).index, style)


def _cell(index: int, style: str) -> Image.Image:
    row, column = divmod(index, COLUMNS)
    box = (column * SPRITE, row * SPRITE, (column + 1) * SPRITE, (row + 1) * SPRITE)
    return _sheet(style).crop(box)


@cache
def _sheet(style: str) -> Image.Image:
    """A shipped style, or a sheet of the same layout, given by the path of its PNG file."""
    path = Path(style) if style.endswith(".png") else ASSETS / f"{style}.png"
    if not path.is_file():
        raise UnknownNameError("style", style, CATALOGUE)
    size = (COLUMNS * SPRITE, -(-len(CONCEPTS) // COLUMNS) * SPRITE)
    try:
        sheet = Image.open(path, formats=["PNG"]).convert("RGBA")
    except OSError as error:
        raise InputError(f"{path} is no PNG file ({reason_of(error)}). Build it again.") from error
    if sheet.size != size:
        raise InputError(f"{path} is no sheet of {size[0]} x {size[1]} pixels. Build it again.")
    return sheet
