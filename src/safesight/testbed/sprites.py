"""Builds the sprite sheets from the two public emoji sets; not needed to use them.

The pictures are by others: Noto emoji (Google, Apache-2.0) and Twemoji (X Corp. and contributors,
CC-BY 4.0), as 64 x 64 PNG files in the npm packages `emoji-datasource-google` and
`emoji-datasource-twitter`, version 16.0.0. With both unpacked, this rebuilds the shipped sheets:

    python -m safesight.testbed.sprites GOOGLE_FOLDER TWITTER_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from safesight.testbed.concepts import CONCEPTS
from safesight.testbed.scenes import ASSETS, COLUMNS, SPRITE, STYLES

__all__ = ["build"]

_SUBFOLDER = {"noto": "img/google/64", "twemoji": "img/twitter/64"}


def build(folder: Path, style: str) -> Path:
    """Write the sheet of one style, row by row in concept order."""
    rows = -(-len(CONCEPTS) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * SPRITE, rows * SPRITE))
    for concept in CONCEPTS:
        sprite = Image.open(folder / _SUBFOLDER[style] / f"{concept.codepoint}.png")
        row, column = divmod(concept.index, COLUMNS)
        sheet.paste(sprite.convert("RGBA"), (column * SPRITE, row * SPRITE))
    ASSETS.mkdir(parents=True, exist_ok=True)
    path = ASSETS / f"{style}.png"
    sheet.save(path, optimize=True)
    return path


if __name__ == "__main__":
    for style, folder in zip(STYLES, sys.argv[1:], strict=True):
        sys.stdout.write(f"{build(Path(folder), style)}\n")
