"""OCR: the words in a picture, by RapidOCR, whose package carries its models.

An optional extra: `pip install "safesight[ocr]"`. Nothing is downloaded when it runs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from safesight.extras import need

__all__ = ["check_ocr", "read_text"]


def check_ocr() -> None:
    """Say what to install where OCR is missing.

    Raises:
        MissingExtraError: RapidOCR or its runtime is not installed.
    """
    for module in ("rapidocr", "onnxruntime"):
        need(module, "ocr", "The OCR tool")


def read_text(picture: Image.Image) -> str:
    """Every line of text that is found, one a line, or a sentence that there is none.

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
