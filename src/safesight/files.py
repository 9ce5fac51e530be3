"""Writes a file completely or not at all, and reads the JSON of one that may be damaged.

A reader never sees half a file, and a run that is killed leaves the old file in place.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from pathlib import Path
from typing import Any

from safesight.errors import StorageError, reason_of

__all__ = ["UNWRITABLE", "check_place", "parsed", "write_bytes", "write_text"]


UNWRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
)
"""Codes of an `OSError` for a place that has no room or is closed: the user's to mend."""


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
    return write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> Path:
    """Like `write_text`, for bytes.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            target.write_bytes(content)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(target, content)
    except OSError as error:
        raise StorageError(
            f"{path} could not be written ({reason_of(error)}). "
            "Choose a place that you can write to and that has free space."
        ) from error
    return path


def _replace(target: Path, content: bytes) -> None:
    """Write beside the target, then take its place.

    A new file gets the permissions that the umask leaves, a replaced one keeps its own.
    """
    beside = target.with_name(f".{target.name[:100]}-{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as file:
            file.write(content)
        if target.exists():
            beside.chmod(target.stat().st_mode & 0o777)
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
