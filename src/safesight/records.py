"""The base class of all records that are stored as JSON.

Unknown keys are errors, so a file from another version is rejected instead of losing a column.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from safesight.errors import StorageError

__all__ = ["Record", "read_record", "versions_of"]

Model = TypeVar("Model", bound=BaseModel)


class Record(BaseModel):
    """An immutable record that rejects unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_record(path: Path, kind: type[Model], remedy: str) -> Model | None:
    """The record in a file, or None if there is no such file.

    Args:
        path: The file.
        kind: What it should hold.
        remedy: A sentence for the error: what to do about an unreadable file.

    Raises:
        StorageError: the file is damaged, or holds something else.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise StorageError(f"{path} cannot be read ({reason}). {remedy}") from error


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of the installed packages; packages that are not installed are left out.

    Example:
        >>> versions_of(["no-such-package"])
        {}
    """
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
