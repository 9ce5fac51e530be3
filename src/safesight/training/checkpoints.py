"""Checkpoints of a training run: complete or not there, and unchanged since they were written.

The last file written lists the digests of the others. A checkpoint without it was cut off; one
that no longer matches it was damaged, and resuming from it would give another result.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["MEMORY", "STATE", "check_checkpoint", "last_checkpoint", "seal"]

STATE, MEMORY = "trained.safetensors", "memory-{}.json"
_TRAINER = "trainer_state.json"
_FILES = (
    STATE,
    MEMORY.format(0),
    _TRAINER,
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state.pth",
)
"""What the first process writes and a resumed run reads; not every run has all of them."""
_SEAL = "digests.json"


def seal(folder: Path) -> None:
    """Mark a checkpoint as complete.

    Raises:
        OSError: the folder cannot be written.
    """
    found = {name: _digest(folder / name) for name in _FILES if (folder / name).is_file()}
    (folder / _SEAL).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    found = [
        (int(number), path)
        for path in folder.glob("checkpoint-*")
        if (number := path.name.rpartition("-")[2]).isdecimal()
        and isinstance(_read(path / _TRAINER), dict)
        and isinstance(_read(path / _SEAL), dict)
    ]
    return max(found)[1] if found else None


def check_checkpoint(folder: Path) -> None:
    """Check that every file of a checkpoint is as it was written.

    Raises:
        ValueError: a file is missing or has changed.
        OSError: a file cannot be read.
    """
    digests = _read(folder / _SEAL)
    for name in _FILES:
        expected = digests.get(name) if isinstance(digests, dict) else None
        path = folder / name
        if path.exists() != (expected is not None):
            raise ValueError(f"{name} is {'new' if expected is None else 'missing'}")
        if expected is not None and (not path.is_file() or _digest(path) != expected):
            raise ValueError(f"{name} has changed since it was written")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Any:
    """The JSON value in a file; None if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
