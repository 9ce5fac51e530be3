"""Builds the sprite sheets from the public sets of `styles`; not needed to use them.

Install the packages named in `styles.CATALOGUE`, those that name the icons, and a renderer of SVG:

    npm install emoji-datasource-google@16.0.0 @iconify-json/openmoji@1.2.29 @iconify-json/noto
    pip install resvg-py==0.5.0
    python -m safesight.testbed.sprites node_modules --styles noto,openmoji --out assets
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from safesight.errors import InputError
from safesight.testbed.concepts import CONCEPTS, Concept
from safesight.testbed.styles import ASSETS, CATALOGUE, COLUMNS, SPRITE

__all__ = ["build"]

_NAMING = tuple(f"@iconify-json/{name}" for name in ("noto", "fluent-emoji-flat", "openmoji"))
"""Packages whose list tells which icon is which character, for sets whose own list is empty."""
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="{left} {top} {width} {height}" width="{size}" height="{size}">{body}</svg>'
)


def build(packages: Path, style: str, out: Path = ASSETS) -> Path:
    """Write the sheet of one style, row by row in concept order.

    Args:
        packages: The folder with the unpacked npm packages, usually `node_modules`.
        style: A name in `CATALOGUE`.
        out: The folder to write to.

    Raises:
        InputError: a package is missing, or one needed to draw its pictures.
    """
    source = CATALOGUE[style]
    folder = packages / source.package.rpartition("@")[0]
    if not (folder / source.pictures).exists():
        raise InputError(f"{folder} has no {source.pictures}. Run npm install {source.package}.")
    icons = source.pictures.endswith(".json") and _Icons(folder, packages)
    rows = -(-len(CONCEPTS) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * SPRITE, rows * SPRITE))
    for concept in CONCEPTS:
        if icons:
            drawing = icons.draw(concept)
        else:
            drawing = Image.open(folder / source.pictures / f"{concept.codepoint}.png")
        if drawing is not None:
            row, column = divmod(concept.index, COLUMNS)
            sheet.paste(drawing.convert("RGBA"), (column * SPRITE, row * SPRITE))
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{style}.png"
    sheet.save(path, optimize=True)
    return path


class _Icons:
    """A set in the format of Iconify: one JSON file with the body of each SVG."""

    def __init__(self, folder: Path, packages: Path) -> None:
        self.data = _json(folder / "icons.json")
        lists = (holder / "chars.json" for holder in (folder, *(packages / p for p in _NAMING)))
        self.lists = [_json(path) for path in lists if path.is_file()]

    def draw(self, concept: Concept) -> Image.Image | None:
        """The picture of a thing; None if the set does not have it."""
        icon = next((i for name in self._names(concept) if (i := self._icon(name))), None)
        if icon is None:
            return None
        try:
            resvg = importlib.import_module("resvg_py")
        except ImportError as error:
            raise InputError("SVG pictures need resvg-py: pip install resvg-py==0.5.0") from error
        shape = {"left": 0, "top": 0, "width": 16, "height": 16, **self.data, **icon}
        keys = ("left", "top", "width", "height", "body")
        svg = _SVG.format(size=SPRITE, **{key: shape[key] for key in keys})
        return Image.open(io.BytesIO(bytes(resvg.svg_to_bytes(svg_string=svg))))

    def _names(self, concept: Concept) -> list[str]:
        codes = (concept.codepoint, concept.codepoint.removesuffix("-fe0f"))
        found = [names[code] for names in self.lists for code in codes if code in names]
        return [*found, concept.name]

    def _icon(self, name: str) -> dict[str, Any] | None:
        while name in self.data.get("aliases", {}):
            name = self.data["aliases"][name]["parent"]
        icon: dict[str, Any] | None = self.data["icons"].get(name)
        return icon


def _json(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def main() -> None:
    """Command line: build the sheets of some styles, or of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("packages", type=Path, help="the folder node_modules")
    parser.add_argument("--styles", default=",".join(CATALOGUE), help="names, with commas")
    parser.add_argument("--out", type=Path, default=ASSETS, help="the folder of the sheets")
    arguments = parser.parse_args()
    for style in arguments.styles.split(","):
        sys.stdout.write(f"{build(arguments.packages, style, arguments.out)}\n")


if __name__ == "__main__":
    main()
