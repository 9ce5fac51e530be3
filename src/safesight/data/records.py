"""Read the rows of a file, a folder or a data set of the hub, one after the other.

JSONL and CSV are read here, line by line, so that a fault has its line and a file of any size needs
no memory; Parquet and the hub's data sets through `datasets`, which maps them from disk. Pictures
are not opened.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from safesight.errors import InputError, reason_of
from safesight.extras import need
from safesight.files import parsed

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

__all__ = ["FORMATS", "Record", "records"]

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Endings of files with rows."""
_HUB = re.compile(r"hf:(?P<name>[^@:]+)(?:@(?P<revision>[^:]+))?(?::(?P<split>.+))?")
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_CELL = 10_000_000
"""Characters in one cell of a CSV file: beyond, a quotation mark is missing."""


@dataclass(frozen=True)
class Record:
    """One row as it stands in its file."""

    place: str
    """Where, for messages: "line 12", "row 3"."""
    values: Mapping[str, Any]
    folder: Path | None = None
    """The folder that paths of pictures are relative to; None if pictures are stored inside."""
    stored: Mapping[str, Callable[[], Image]] | None = None
    """Pictures stored inside, by column."""
    fault: str | None = None
    """Why the row cannot be read at all."""


def records(source: str | Path) -> Iterator[Record]:
    """All rows of a source.

    Args:
        source: A .jsonl, .json, .csv, .tsv or .parquet file; a folder of pictures with
            `metadata.jsonl` or `metadata.csv`; or `hf:NAME[@REVISION][:SPLIT]`.

    Raises:
        InputError: there is no such file, its format is unknown, or nothing of it can be read.
    """
    if match := _HUB.fullmatch(str(source)):
        return _of_hub(match["name"], match["revision"], match["split"])
    path = Path(source).expanduser()
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise InputError(f"There is no file or folder {path}. Check the path of --data.")
    return _of_file(path)


def _of_file(path: Path) -> Iterator[Record]:
    kind = path.suffix.lower()
    if kind == ".jsonl":
        return _of_lines(path)
    if kind == ".json":
        return _of_array(path)
    if kind in (".csv", ".tsv"):
        return _of_table(path, "\t" if kind == ".tsv" else ",")
    if kind == ".parquet":
        return _of_parquet(path)
    raise InputError(
        f"{path} is not a file of a known format. Use one of {', '.join(FORMATS)}, or a folder of "
        "pictures with metadata.jsonl."
    )


def _of_folder(path: Path) -> Iterator[Record]:
    """The layout of `datasets`' ImageFolder: pictures, and a file that describes them."""
    found = [path / name for name in _METADATA if (path / name).is_file()]
    if not found:
        raise InputError(
            f"{path} has no {' or '.join(_METADATA[:2])}. Describe every picture in one: "
            "file_name, question, label."
        )
    for record in _of_file(found[0]):
        values = dict(record.values)
        if "file_name" in values:
            values["image"] = values.pop("file_name")
        elif "file_names" in values:
            values["images"] = values.pop("file_names")
        yield Record(record.place, values, path, fault=record.fault)


def _of_lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"line {number}"
            try:
                values = parsed(_text(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line))
            except ValueError as error:
                yield Record(place, {}, fault=f"it is not JSON ({reason_of(error)})")
                continue
            yield _object(place, values, path.parent)


def _of_array(path: Path) -> Iterator[Record]:
    try:
        found = parsed(_text(path.read_bytes().removeprefix(b"\xef\xbb\xbf")))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({reason_of(error)}). Repair it.") from error
    if not isinstance(found, list):
        raise InputError(f"{path} is not a list of rows. Write one object per row in a list.")
    for number, values in enumerate(found, 1):
        yield _object(f"row {number}", values, path.parent)


def _object(place: str, values: Any, folder: Path) -> Record:
    if not isinstance(values, Mapping):
        return Record(place, {}, fault="it is not an object with columns")
    return Record(place, values, folder)


def _of_table(path: Path, separator: str) -> Iterator[Record]:
    csv.field_size_limit(_CELL)
    with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
        line = 1
        try:
            above = _comments(file)
            reader = csv.reader(file, delimiter=separator, strict=True)
            columns = [name.strip() for name in next(filter(None, reader), ())]
            if len(set(columns)) < len(columns):
                double = next(name for name in columns if columns.count(name) > 1)
                raise InputError(f"{path} has two columns called {double!r}. Rename one.")
            line = above + reader.line_num + 1
            for cells in reader:
                if cells:  # a blank line has none
                    yield _line(columns, cells, f"line {line}", path.parent)
                line = above + reader.line_num + 1
        except csv.Error as error:
            raise InputError(
                f"{path}, line {line}: the row cannot be read ({reason_of(error)}). Check its "
                "quotation marks."
            ) from error
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, after line {line}: it is not in UTF-8 ({error.reason}). Save the file "
                "as UTF-8."
            ) from error


def _comments(file: TextIO) -> int:
    """Pass over the lines before the columns that begin with "# ", and count them."""
    count = 0
    begin = file.tell()
    while file.readline().startswith("# "):
        count += 1
        begin = file.tell()
    file.seek(begin)
    return count


def _line(columns: Sequence[str], cells: Sequence[str], place: str, folder: Path) -> Record:
    if len(cells) != len(columns):
        more = "more" if len(cells) > len(columns) else "fewer"
        return Record(place, {}, fault=f"it has {more} cells than the first line has columns")
    return Record(place, dict(zip(columns, cells, strict=True)), folder)


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not in UTF-8: {error.reason}") from error


def _of_parquet(path: Path) -> Iterator[Record]:
    need("datasets", "data", "A Parquet file")
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        table = load_dataset("parquet", data_files=str(path), split="train")
    except (DatasetGenerationError, ValueError, OSError) as error:
        cause = error.__cause__ or error
        raise InputError(f"{path} cannot be read ({reason_of(cause)}). Save it again.") from error
    return _of_dataset(table, path.parent)


def _of_hub(name: str, revision: str | None, split: str | None) -> Iterator[Record]:
    need("datasets", "data", "A data set of the hub")
    from datasets import get_dataset_split_names, load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        if split is None:
            split = _only(get_dataset_split_names(name, revision=revision), name)
        table = load_dataset(name, revision=revision, split=split)
    except (DatasetNotFoundError, ValueError, OSError) as error:
        raise InputError(
            f"The data set {name!r} cannot be loaded ({reason_of(error)}). Check the name, the "
            "revision and the split; if it is gated, log in first."
        ) from error
    return _of_dataset(table, None)


def _only(splits: list[str], name: str) -> str:
    if len(splits) == 1:
        return splits[0]
    raise InputError(
        f"The data set {name!r} has the splits {', '.join(splits)}. Name one: hf:{name}:{splits[0]}"
    )


def _of_dataset(table: Any, folder: Path | None) -> Iterator[Record]:
    """Rows of a table; pictures stay where they are until they are opened."""
    from datasets import Image as Picture

    inside = [name for name, kind in table.features.items() if isinstance(kind, Picture)]
    plain = table.remove_columns(inside)
    for name in inside:
        table = table.cast_column(name, Picture(decode=False))
    absent = {name: table.data.column(name).is_null().to_pylist() for name in inside}
    for index, values in enumerate(plain):
        stored = {
            name: partial(_stored, table, index, name) for name in inside if not absent[name][index]
        }
        yield Record(f"row {index + 1}", values, folder, stored)


def _stored(table: Any, index: int, column: str) -> Image:
    from safesight.models.pictures import open_picture

    cell = table[index][column]
    name = f"{column} of row {index + 1}"
    return open_picture(cell["bytes"] if cell.get("bytes") else cell.get("path"), name)
