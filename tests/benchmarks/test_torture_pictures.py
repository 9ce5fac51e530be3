"""The trial of picture files, in small: nothing is wrong, and a wrong way is noticed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from benchmarks.torture import pictures
from PIL import Image


def test_every_file_is_opened_right_or_refused(tmp_path: Path) -> None:
    found = pictures.run(300, 7, tmp_path)
    assert found["faults"] == []
    assert found["tried"] == found["right"] + found["refused"] == 300
    assert min(found["right"], found["refused"]) > 100
    assert not list(tmp_path.iterdir())


def test_the_plain_way_to_open_a_picture_has_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plainly(source: Any) -> Image.Image:
        data = source if isinstance(source, bytes) else source.read_bytes()
        return Image.open(io.BytesIO(data)).convert("RGB")

    monkeypatch.setattr(pictures, "open_picture", plainly)
    faults = " ".join(pictures.run(300, 7, tmp_path)["faults"])
    for kind in ("turned by", "I;16 as", "float32 as TIFF", "TGA", "UnidentifiedImageError"):
        assert kind in faults
