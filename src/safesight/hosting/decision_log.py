"""The decision log: one line of JSON for each refusal, or for each decision.

A line is one detector's decision about one answer to a request, so a request that two detectors
refuse has two lines with the same request id, and one with several choices has lines for each of
them. The texts of prompts are left out unless the operator asks for them.

**If a line cannot be written** (the disk is full, the folder is gone), the answer stays what the
detectors decided: a refusal is still refused and an allowed answer still goes out. The log records
decisions and makes none. If a full disk stopped the server, anyone who can cause refusals could
fill the disk and take it down. What was lost is not silent: a warning in the program's own log when
writing starts to fail, a counter in the metrics, and a line with the number of lost lines once
writing works again.

The file can be rotated by moving it away (it is created again at the next line) or by logrotate's
`copytruncate`. Several processes may append to one file.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from safesight.errors import StorageError, reason_of
from safesight.files import check_place

__all__ = ["Decision", "DecisionLog"]

_log = logging.getLogger("safesight")


@dataclass(frozen=True)
class Decision:
    """What one detector decided about one answer to a request."""

    request: str
    """The id of the request."""
    choice: int
    """The number of the answer, from 0; a request may ask for several."""
    model: str
    defense: str
    """All defenses of the request, such as "safety_prompt+sasa"."""
    detector: str
    score: float | None
    """None, or not a number, if the detector could not judge."""
    threshold: float | None
    refused: bool
    error: str | None
    """Why the detector could not judge; the request is then refused."""
    artifact: str | None
    """The digest of the detector's artifact."""
    pictures: int
    """How many pictures the request has."""
    prompt: str | None = None
    """Written only if the log was opened with `with_prompts`."""


class DecisionLog:
    """Appends decisions to a file that only its owner can read.

    Args:
        path: The file; missing parent folders are created.
        every: Write every decision, not only refusals.
        with_prompts: Write the texts of prompts as well.
        on_failure: Called for every line that could not be written.

    Raises:
        StorageError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        every: bool = False,
        with_prompts: bool = False,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._path, self._every, self._with_prompts = path, every, with_prompts
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._lost = 0
        self._torn = False
        self._closed = False
        check_place(path)
        if path.exists() and not path.is_file():
            raise StorageError(f"{path} is a device or a pipe. Choose a regular file.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: int | None = self._opened()
        except OSError as error:
            raise StorageError(
                f"The decision log {path} could not be opened ({reason_of(error)}). "
                "Choose a file that you can write to."
            ) from error

    def write(self, decisions: Iterable[Decision]) -> None:
        """Append the decisions that belong in the log; a failure to write is not an error."""
        for decision in decisions:
            if self._every or decision.refused or decision.error:
                self._append(self._entry(decision))

    def close(self) -> None:
        """Close the file; later decisions count as lost."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file, self._closed = None, True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _entry(self, decision: Decision) -> dict[str, Any]:
        entry = {"time": _now(), **asdict(decision)}
        for name in ("score", "threshold"):
            if entry[name] is not None and not math.isfinite(entry[name]):
                entry[name] = None
        if not self._with_prompts:
            del entry["prompt"]
        return entry

    def _append(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, allow_nan=False).encode()
        with self._lock:
            try:
                self._reopen_if_moved()
                if self._lost:
                    self._put(json.dumps({"time": _now(), "lost": self._lost}).encode())
                    _log.warning("The decision log is written again; %d lines lost.", self._lost)
                    self._lost = 0
                self._put(line)
            except OSError as error:
                if not self._lost:
                    _log.warning(
                        "The decision log %s cannot be written (%s). Decisions stand, and their "
                        "lines are lost until it can.",
                        self._path,
                        reason_of(error),
                    )
                self._lost += 1
                self._on_failure()

    def _put(self, line: bytes) -> None:
        """Write a line in one call, so that lines of several processes do not mix."""
        assert self._file is not None
        whole = (b"\n" if self._torn else b"") + line + b"\n"
        written = os.write(self._file, whole)
        self._torn = written < len(whole) and (self._torn or written > 0)
        if written < len(whole):
            raise OSError("no room for a whole line")

    def _reopen_if_moved(self) -> None:
        if self._closed:
            raise OSError("it is closed")
        try:
            here = os.stat(self._path)
        except FileNotFoundError:
            here = None
        if self._file is not None:
            if here is not None and os.path.samestat(here, os.fstat(self._file)):
                return
            os.close(self._file)
            self._file = None
        self._file = self._opened()

    def _opened(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(file).st_size
        self._torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        return file


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
