"""Writes a file completely or not at all.

A reader never sees half a file, and a run that is killed leaves the old file in place.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from safesight.errors import StorageError

__all__ = ["write_text"]


def write_text(path: Path, text: str) -> Path:
    """Replace a file in one step; anything but a regular file, such as a pipe, is written to.

    Args:
        path: The file; missing parent folders are created.
        text: Its whole content.

    Raises:
        StorageError: it cannot be written.
    """
    target = path.resolve()
    try:
        if target.exists() and not target.is_file():
            target.write_text(text, encoding="utf-8")
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(target, text)
    except OSError as error:
        raise StorageError(
            f"{path} could not be written ({error.strerror or error}). "
            "Choose a place that you can write to and that has free space."
        ) from error
    return path


def _replace(target: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)  # a temporary file is for its owner only
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
