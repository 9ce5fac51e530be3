"""The files of a benchmark in a folder: the authors' own layout, or a copy of its hub repository.

A picture may be a file, or inside an archive or a table. It is looked for at once, and opened when
it is needed; one that is missing is counted, not raised, so that an error can name all of them.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from safesight.data.pictures import opener
from safesight.data.records import Record, records
from safesight.errors import InputError, reason_of
from safesight.files import parsed

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Folder", "Missing", "cell", "hash_of", "stored"]

_AGAIN = "Download it again."


@dataclass(frozen=True)
class Missing:
    """Stands for a picture that is not there."""

    name: str

    def __call__(self) -> Image:
        """There is nothing to open.

        Raises:
            InputError: always.
        """
        raise InputError(f"The picture {self.name!r} is missing. {_AGAIN}")


@dataclass(frozen=True)
class Folder:
    """Where the files of a benchmark are.

    Example:
        >>> Folder(Path("nowhere"), "Mine").has("a.csv")
        False
    """

    path: Path
    title: str
    """What error messages call the benchmark."""

    def has(self, *names: str) -> bool:
        """Whether one of these files is there; names may hold wildcards."""
        return any(self._found(name) for name in names)

    def file(self, *names: str) -> Path:
        """The first of these files that is there.

        Raises:
            InputError: none of them is.
        """
        return self.files(*names)[0]

    def files(self, *names: str) -> list[Path]:
        """All files that match the first of these names that any file matches, by name.

        Raises:
            InputError: there is none.
        """
        for name in names:
            if found := self._found(name):
                return found
        raise InputError(
            f"{self.title} is not complete: there is no {' or '.join(names)} in {self.path}. "
            f"{_AGAIN}"
        )

    def _found(self, name: str) -> list[Path]:
        if "*" not in name:
            return [self.path / name] if (self.path / name).is_file() else []
        return sorted(path for path in self.path.glob(name) if path.is_file())

    def rows(self, *names: str) -> Iterator[Record]:
        """The rows of a table, or of its parts one after the other.

        Raises:
            InputError: it is not there, or a row cannot be read; the message names its line.
        """
        for path in self.files(*names):
            for record in records(path):
                if record.fault is not None:
                    raise InputError(f"{path}, {record.place}: {record.fault}. {_AGAIN}")
                yield record

    def json(self, *names: str) -> Any:
        """The content of a file in JSON.

        Raises:
            InputError: it is not there, or half of it is missing.
        """
        path = self.file(*names)
        try:
            return parsed(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({reason_of(error)}). {_AGAIN}") from error

    def picture(self, *names: str) -> Callable[[], Image]:
        """What opens the first of these pictures that is there, as a file or in an archive.

        Raises:
            InputError: a name leads out of the folder.
        """
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise InputError(
                    f"{self.title} names a picture outside its folder: {name}. Do not use this "
                    "copy of it."
                )
            if (path := self.path / name).is_file():
                return opener(path)
        for name in names:
            if name in self._packed:
                return partial(_unpacked, self._packed[name], name)
        return Missing(names[0])

    @cached_property
    def _packed(self) -> dict[str, Path]:
        """The archive that holds each file, for all archives of the folder."""
        return {
            name: archive
            for archive in sorted([*self.path.glob("*.zip"), *self.path.glob("*/*.zip")])
            for name in _names(archive)
        }

    def within(self, name: str) -> Path | None:
        """A file by its name, which may lie up to two folders deep; None if it is not there."""
        places = (name, f"*/{name}", f"*/*/{name}")
        return next((path for place in places for path in self._found(place)), None)


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cell(record: Record, *names: str) -> str:
    """The text of a row in the first of these columns that the row has.

    Raises:
        InputError: the row has none of them.
    """
    for name in names:
        if record.values.get(name) is not None:
            return str(record.values[name]).strip()
    raise InputError(f"The benchmark's {record.place} has no {' or '.join(names)}. {_AGAIN}")


def stored(record: Record, name: str, column: str = "image") -> Callable[[], Image]:
    """What opens the picture inside a row of a table.

    Args:
        record: The row.
        name: What error messages call the picture.
        column: Where it is.
    """
    return (record.stored or {}).get(column, Missing(name))


def _names(archive: Path) -> list[str]:
    try:
        with zipfile.ZipFile(archive) as files:
            return files.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{archive} is damaged ({reason_of(error)}). {_AGAIN}") from error


def _unpacked(archive: Path, name: str) -> Image:
    from safesight.models.pictures import open_picture

    try:
        with zipfile.ZipFile(archive) as files:
            content = files.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError(f"{archive} is damaged ({reason_of(error)}). {_AGAIN}") from error
    return open_picture(content, name)
