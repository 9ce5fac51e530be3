"""Picture files of every kind: each is opened right, or refused in one sentence.

What a right picture is comes from the numbers that the file was made of, by arithmetic that Pillow
has no part in.
"""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image

from safesight.errors import SafesightError
from safesight.models.pictures import open_picture

__all__ = ["run"]

Array = np.ndarray[Any, np.dtype[Any]]

_SECONDS = 10.0
"""No small picture takes longer, whatever is wrong with it."""
_SUFFIXES = ("png", "jpg", "gif", "tiff", "webp", "bmp", "dat", "txt")


@dataclass(frozen=True)
class Trial:
    """A file, and what must come of it."""

    what: str
    data: bytes
    expected: Array | None
    """H x W x 3; None for a file that must be refused."""
    tolerance: int = 1
    """How far the mean over a picture may differ by rounding and lossy compression."""
    damaged: bool = False
    """Whether it may be refused, too."""
    changed: bool = False
    """Whether its pixels may be others, since they were overwritten."""


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Make and open `n` files in a folder.

    Returns:
        The number of files `tried`, opened `right` and `refused`, and the `faults` in words.
    """
    faults: list[str] = []
    counts = {"right": 0, "refused": 0}
    kinds = list(_KINDS)
    for index in range(n):
        rng = np.random.default_rng([seed, index])
        trial = _KINDS[kinds[index % len(kinds)]](rng)
        path = folder / f"{index}.{rng.choice(_SUFFIXES)}"
        path.write_bytes(trial.data)
        begin = time.monotonic()
        outcome = _outcome(trial, path if index % 2 else trial.data)
        if time.monotonic() - begin > _SECONDS:
            outcome = "took too long"
        if outcome in counts:
            counts[outcome] += 1
        else:
            faults.append(f"{trial.what}, number {index} of seed {seed}: {outcome}")
        path.unlink()
    return {"tried": n, **counts, "faults": faults}


def _outcome(trial: Trial, source: Path | bytes) -> str:
    """`right`, `refused`, or what is wrong."""
    try:
        picture = open_picture(source)
    except SafesightError as error:
        if "\n" in str(error) or len(str(error)) > 600:
            return f"a message of another form: {error}"
        return "refused" if trial.expected is None or trial.damaged else f"refused: {error}"
    except Exception as error:  # a trial must not end the others
        return f"{type(error).__name__}: {error}"
    if trial.expected is None:
        return "opened, though it is no readable picture"
    found = np.asarray(picture).astype(int)
    if picture.mode != "RGB" or (found.shape != trial.expected.shape and not trial.changed):
        return f"became {picture.mode} of {found.shape}, not {trial.expected.shape}"
    if trial.changed:
        return "right"
    far = float(np.abs(found - trial.expected).mean())
    worst = int(np.abs(found - trial.expected).max())
    if far > trial.tolerance or (trial.tolerance == 1 and worst > 1):
        return f"the pixels differ by {far:.1f} on average, by {worst} at most"
    return "right"


def _size(rng: Generator) -> tuple[int, int]:
    """Height and width."""
    height, width = rng.integers(1, 48, 2)
    return int(height), int(width)


def _noise(rng: Generator, *shape: int) -> Array:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def _smooth(rng: Generator) -> Array:
    """H x W x 3, a gradient, which lossy formats keep."""
    height, width = (int(side) for side in rng.integers(24, 64, 2))
    first, last = _noise(rng, 1, 1, 3).astype(float), _noise(rng, 1, 1, 3).astype(float)
    share = np.linspace(0, 1, width)[None, :, None] * np.ones((height, 1, 1))
    return (first + share * (last - first)).round().astype(np.uint8)


def _grey(values: Array) -> Array:
    return np.repeat(values[..., None].astype(np.uint8), 3, axis=2)


def _on_white(colour: Array, alpha: Array) -> Array:
    share = alpha[..., None] / 255
    return np.round(colour * share + 255 * (1 - share)).astype(int)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Drawn:
    """A picture in one mode, and its colours on white."""

    picture: Image.Image
    expected: Array
    options: dict[str, Any]


def _drawn(mode: str, rng: Generator) -> _Drawn:
    """A picture of noise."""
    height, width = _size(rng)
    options: dict[str, Any] = {}
    if mode == "1":
        bits = rng.integers(0, 2, (height, width)).astype(bool)
        return _Drawn(Image.fromarray(bits), _grey(bits * 255), options)
    if mode == "I;16":
        deep = rng.integers(0, 65536, (height, width)).astype(np.uint16)
        return _Drawn(Image.fromarray(deep), _grey(np.round(deep / 257)), options)
    if mode in ("P", "P, clear"):
        palette, chosen = _noise(rng, 16, 3), rng.integers(0, 16, (height, width), dtype=np.uint8)
        picture = Image.fromarray(chosen)
        picture.putpalette(palette.tobytes())
        expected = palette[chosen].astype(int)
        if mode == "P, clear":
            options["transparency"] = 3
            expected[chosen == 3] = 255
        return _Drawn(picture, expected, options)
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    values = _noise(rng, height, width, channels)
    picture = Image.frombytes(mode, (width, height), values.tobytes())
    if mode == "CMYK":
        ink = 255 - values.astype(float)
        return _Drawn(picture, np.round(ink[..., :3] * ink[..., 3:] / 255).astype(int), options)
    colour = values[..., :3] if channels > 2 else _grey(values[..., 0])
    expected = colour.astype(int)
    if channels in (2, 4):
        expected = _on_white(colour, values[..., -1])
    return _Drawn(picture, expected, options)


_EXACT = {
    "PNG": ("1", "L", "LA", "P", "P, clear", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P", "P, clear"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "JPEG2000": ("L", "RGB", "I;16"),
}


def _exact(rng: Generator) -> Trial:
    kind = str(rng.choice(list(_EXACT)))
    mode = str(rng.choice(_EXACT[kind]))
    drawn = _drawn(mode, rng)
    options = dict(drawn.options)
    if kind == "TIFF" and mode != "1":
        options["compression"] = str(rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate"]))
    if kind == "WEBP":
        options |= {"lossless": True, "exact": True}
    return Trial(f"{mode} as {kind}", _saved(drawn.picture, kind, **options), drawn.expected)


def _lossy(rng: Generator) -> Trial:
    kind, colours = str(rng.choice(["JPEG", "WEBP", "AVIF"])), _smooth(rng)
    options: dict[str, Any] = {"quality": 90}
    if kind == "JPEG":
        options |= {"progressive": bool(rng.integers(2)), "subsampling": int(rng.integers(3))}
    data = _saved(Image.fromarray(colours), kind, **options)
    return Trial(f"lossy {kind}", data, colours.astype(int), tolerance=6)


_TURNS: dict[int, Callable[[Array], Array]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def _turned(rng: Generator) -> Trial:
    """As the EXIF data says, which is in a value that may be nonsense."""
    kind, colours = str(rng.choice(["JPEG", "PNG", "TIFF", "WEBP"])), _smooth(rng)
    orientation = int(rng.integers(0, 11))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif}
    if kind == "WEBP":
        options["lossless"] = True
    data = _saved(Image.fromarray(colours), kind, **options)
    expected = _TURNS.get(orientation, _TURNS[1])(colours).astype(int)
    return Trial(f"{kind} turned by {orientation}", data, expected, 6 if kind == "JPEG" else 1)


def _moving(rng: Generator) -> Trial:
    """An animation counts as its first frame."""
    kind = str(rng.choice(["GIF", "PNG", "TIFF", "WEBP"]))
    frames = [_noise(rng, 20, 30) // 16 * 16 for _ in range(3)]
    first, *more = map(Image.fromarray, frames)
    options = {"lossless": True} if kind == "WEBP" else {}
    if kind == "WEBP":
        first, *more = (frame.convert("RGB") for frame in (first, *more))
    data = _saved(first, kind, save_all=True, append_images=more, **options)
    return Trial(f"moving {kind}", data, _grey(frames[0]).astype(int))


def _decorated(rng: Generator) -> Trial:
    """Metadata of any content changes nothing."""
    kind, colours = str(rng.choice(["PNG", "JPEG", "WEBP"])), _smooth(rng)
    junk = _noise(rng, int(rng.integers(1, 3000))).tobytes()
    name = str(rng.choice(["exif", "icc_profile", "xmp", "comment"]))
    options: dict[str, Any] = {name: b"Exif\0\0" + junk if name == "exif" else junk}
    if kind == "WEBP":
        options["lossless"] = True
    data = _saved(Image.fromarray(colours), kind, **options)
    tolerance = 6 if kind == "JPEG" else 1
    return Trial(f"{kind} with odd {name}", data, colours.astype(int), tolerance)


def _cut(rng: Generator) -> Trial:
    whole = _exact(rng)
    at = int(rng.integers(0, len(whole.data)))
    return Trial(f"{whole.what}, cut", whole.data[:at], whole.expected, damaged=True)


def _flipped(rng: Generator) -> Trial:
    whole = _exact(rng) if rng.integers(2) else _lossy(rng)
    data = bytearray(whole.data)
    for _ in range(int(rng.integers(1, 12))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    return Trial(f"{whole.what}, flipped", bytes(data), whole.expected, damaged=True, changed=True)


def _unknown_range(rng: Generator) -> Trial:
    dtype = str(rng.choice(["float32", "int32"]))
    values = (rng.random(_size(rng)) * float(rng.choice([1, 255, 70_000]))).astype(dtype)
    return Trial(f"{dtype} as TIFF", _saved(Image.fromarray(values), "TIFF"), None)


def _foreign(rng: Generator) -> Trial:
    """No picture, or in a format that is not read."""
    kind = str(rng.choice(["EPS", "PDF", "TGA", "PCX", "SGI", "DDS", "noise", "text", "empty"]))
    if kind == "noise":
        return Trial(kind, b"\xfe" + _noise(rng, 300).tobytes(), None)
    if kind in ("text", "empty"):
        return Trial(kind, b"not a picture " * (20 if kind == "text" else 0), None)
    return Trial(kind, _saved(Image.fromarray(_smooth(rng)), kind), None)


def _odd_size(rng: Generator) -> Trial:
    """Stripes, and sizes that only a header claims."""
    if rng.integers(2):
        length = int(rng.integers(150, 260))
        values = _noise(rng, 1, length)
        data = _saved(Image.fromarray(values), "PNG")
        return Trial(f"{length} x 1", data, _grey(values).astype(int) if length <= 200 else None)
    data = bytearray(_saved(Image.new("RGB", (8, 8)), "BMP"))
    data[18:26] = struct.pack("<ii", *(int(side) for side in rng.integers(9_000, 2**31 - 1, 2)))
    return Trial("a size that is only claimed", bytes(data), None)


_KINDS: dict[str, Callable[[Generator], Trial]] = {
    "exact": _exact,
    "lossy": _lossy,
    "turned": _turned,
    "moving": _moving,
    "decorated": _decorated,
    "cut": _cut,
    "flipped": _flipped,
    "unknown range": _unknown_range,
    "foreign": _foreign,
    "odd size": _odd_size,
}
