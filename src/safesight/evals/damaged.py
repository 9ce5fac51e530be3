"""Any failure to read a log as one exception, whatever library it comes from.

A log is a zip archive of compressed JSON. Where it is damaged, the error is that of the zip reader,
of one of two decompressors, of one of two JSON parsers, or of Inspect's own records.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DamagedLog", "reading"]


class DamagedLog(Exception):
    """A log cannot be read; the message is the first line of the reason."""


@contextmanager
def reading() -> Iterator[None]:
    """Inside, every error becomes a `DamagedLog`. For calls of Inspect's readers only."""
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DamagedLog(reason) from error
