"""OCR: the words in a picture, read by RapidOCR, whose package contains its models.

An optional extra: `pip install "safesight[ocr]"`. Nothing is downloaded at run time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from safesight.extras import need

__all__ = ["check_ocr", "read_text"]


def check_ocr() -> None:
    """Say what to install if OCR is missing.

    Raises:
        MissingExtraError: RapidOCR or its runtime is not installed.
    """
    for module in ("rapidocr", "onnxruntime"):
        need(module, "ocr", "The OCR tool")


def read_text(picture: Image.Image) -> str:
    """All lines of text in the picture, one per line, or a sentence that there are none.

    Raises:
        MissingExtraError: RapidOCR is not installed.
    """
    check_ocr()
    blue_first = np.asarray(picture.convert("RGB"))[:, :, ::-1]
    lines = _engine()(blue_first).txts
    return "\n".join(lines) if lines else "There is no text in the picture."


@cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.log_level": "critical"})
