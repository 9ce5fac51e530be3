"""Writes a file completely or not at all.

A reader never sees half a file, and a run that is killed leaves the old file in place.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from safesight.errors import StorageError

__all__ = ["UNWRITABLE", "write_bytes", "write_text"]

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
            f"{path} could not be written ({error.strerror or error}). "
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
