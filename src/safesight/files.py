"""Writes a file completely or not at all, and reads the JSON of one that may be damaged.

A reader never sees half a file, and a run that is killed leaves the old file in place.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safesight.errors import StorageError, reason_of

__all__ = ["check_place", "parsed", "write_text"]


def parsed(text: str | bytes) -> Any:
    """The value that a text in JSON stands for.

    Raises:
        ValueError: it is not JSON, or nested more deeply than anything that is meant.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_place(path: Path, *, folder: bool = False) -> None:
    """Refuse a place that cannot be written, before the work whose result goes there.

    Args:
        path: A file or folder; missing parents are no fault.
        folder: Whether a folder is to be written.

    Raises:
        StorageError: there is something else, or the folder above does not let you write.
    """
    if path.is_dir() != folder and path.exists():
        what = "a folder" if folder else "a file"
        raise StorageError(f"{path} is not {what}. Choose another place.")
    above = path.absolute()
    while not above.exists():
        above = above.parent
    if (above.is_dir() or above != path.absolute()) and not _open(above):
        raise StorageError(
            f"{path} cannot be written: {above} is not a folder you can write to. "
            "Choose another place."
        )


def _open(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


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
            f"{path} could not be written ({reason_of(error)}). "
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
