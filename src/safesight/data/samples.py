"""Turn the rows of a data file into samples, and say what is wrong with every row that is not one.

All faults of a file are found before anything runs. Whether a picture's file is there is checked,
not whether it can be opened; `safesight data check` opens all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from safesight.data.pictures import opener
from safesight.data.records import Record, records
from safesight.data.schema import COLUMNS, Row, Turn, faults_of
from safesight.errors import InputError
from safesight.types import Message, Sample, pixels_of

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Checked", "Data", "checked", "read_answered", "read_data"]

SHOWN = 5
"""Faults that an error message lists."""


@dataclass(frozen=True)
class Checked:
    """One row: its sample, or what is wrong with it."""

    place: str
    sample: Sample | None
    faults: Sequence[str] = ()
    ignored: Sequence[str] = ()
    """Columns that the schema does not know."""
    answer: str | None = None
    """What a model answered, if the row says so."""


@dataclass(frozen=True)
class Data:
    """All samples of a source.

    Example:
        >>> data = Data("mine.csv", [Sample(id="1", question="?", label="benign", target="")])
        >>> len(data.samples), len(data.hash)
        (1, 64)
    """

    source: str
    samples: Sequence[Sample] = field(repr=False)

    @cached_property
    def hash(self) -> str:
        """Hex hash of every sample's id, texts, label, facts and pixels."""
        digest = hashlib.sha256()
        for sample in self.samples:
            parts = [sample.id, sample.question, sample.label, sample.target, sample.system]
            parts += [json.dumps([sample.turns, sample.prefill])]
            digest.update(json.dumps([*parts, sample.facts], sort_keys=True, default=dict).encode())
            for picture in sample.pictures:
                digest.update(pixels_of(picture()))
        return digest.hexdigest()


def read_data(source: str | Path, columns: Mapping[str, str] | None = None) -> Data:
    """The samples of a file, a folder or a data set of the hub.

    Args:
        source: See `records`.
        columns: Names of columns in the source, by the schema's names: {"question": "prompt"}.

    Raises:
        InputError: the source cannot be read, it has no rows, or some of them are wrong. The
            message counts those and names the first by line.
    """
    samples = [sample for sample, _ in _sound(source, checked(source, columns))]
    return Data(str(source), samples)


def read_answered(
    source: str | Path, columns: Mapping[str, str] | None = None
) -> list[tuple[Sample, str]]:
    """The samples of a source with the answers that some model gave to them.

    Several models may have answered the same row, so ids may repeat.

    Args:
        source: See `records`.
        columns: Names of columns in the source, by the schema's names: {"answer": "response"}.

    Raises:
        InputError: as for `read_data`; or a row has no answer.
    """
    rows = (
        row
        if row.sample is None or row.answer is not None
        else replace(row, sample=None, faults=["it has no answer"])
        for row in checked(source, columns, unique=False)
    )
    return [(sample, str(answer)) for sample, answer in _sound(source, rows)]


def _sound(source: str | Path, rows: Iterable[Checked]) -> Iterator[tuple[Sample, str | None]]:
    """The samples and answers of all rows.

    Raises:
        InputError: there are no rows, or some of them are wrong.
    """
    wrong: list[str] = []
    count = found = 0
    for row in rows:
        if row.sample is not None:
            found += 1
            yield row.sample, row.answer
            continue
        count += 1
        if len(wrong) < SHOWN:
            wrong.append(f"{row.place}: {', and '.join(row.faults)}")
    if count:
        more = f"; and {count - len(wrong)} more" if count > len(wrong) else ""
        told = "1 row" if count == 1 else f"{count} rows"
        raise InputError(
            f"{source} has {told} that cannot be used. {'; '.join(wrong)}{more}. Repair or remove "
            f"them (safesight data check {source} lists all)."
        )
    if not found:
        raise InputError(f"{source} has no rows. Write one prompt per row.")


def checked(
    source: str | Path, columns: Mapping[str, str] | None = None, *, unique: bool = True
) -> Iterator[Checked]:
    """Every row of a source, in order, as a sample or with its faults.

    Args:
        source: See `records`.
        columns: Names of columns in the source, by the schema's names.
        unique: Whether an id that repeats is a fault.

    Raises:
        InputError: the source cannot be read, or `columns` names what is not there.
    """
    mapped = _mapping(columns or {})
    ids: dict[str, str] = {}
    absent = {theirs: name for name, theirs in mapped.items()}
    for number, record in enumerate(records(source)):
        if record.fault is None:
            present = {*record.values, *(record.stored or ())}
            if number == 0:
                _check_names(mapped, present, source)
            absent = {theirs: name for theirs, name in absent.items() if theirs not in present}
        found = _checked(record, mapped)
        if found.sample is not None and unique:
            first = ids.setdefault(found.sample.id, record.place)
            if first != record.place:
                same = f"its id {found.sample.id!r} is also that of {first}"
                if "id" not in record.values and "id" not in mapped:
                    same = f"it repeats {first}"
                found = Checked(record.place, None, [same])
        yield found
    for theirs, name in absent.items():
        raise InputError(f"{source} has no column {theirs!r} for {name} in any row.")


def _mapping(columns: Mapping[str, str]) -> Mapping[str, str]:
    """From the schema's names to the source's."""
    known = {*COLUMNS, "reference"}
    for name in columns:
        if name not in known:
            raise InputError(
                f"There is no column {name!r} to map to. Use one of {', '.join(sorted(known))}, as "
                "in --column question=prompt."
            )
    return columns


def _check_names(mapped: Mapping[str, str], present: set[str], source: str | Path) -> None:
    """Refuse a file whose columns have other names, before a fault is found in every row.

    Columns of JSON may be absent from a row, so a name that was mapped is looked for in all rows.
    """
    fixed = not str(source).lower().endswith((".jsonl", ".json"))
    has = f"It has {', '.join(sorted(map(_named, present)))}."
    for name, theirs in mapped.items():
        if fixed and theirs not in present:
            raise InputError(f"{source} has no column {theirs!r} for {name}. {has}")
    for name in present - {*COLUMNS, *mapped.values()}:
        meant = name.strip().lower()
        if meant in COLUMNS and meant not in present and meant not in mapped:
            raise InputError(
                f"{source} has a column {name!r}, which is not read as {meant!r}. Rename it, or "
                f"say --column '{meant}={name}'."
            )
    for needed in (("question", "messages"), ("label",)):
        strange = present - {*COLUMNS, "reference", *mapped.values()}
        if strange and not any(name in present or name in mapped for name in needed):
            raise InputError(
                f"{source} has no column {needed[0]!r}. {has} Name the right one: "
                f"--column {needed[0]}=THEIRS."
            )


def _named(column: str) -> str:
    """A column as it stands in a message; spaces around a name would not be seen."""
    return column if column == column.strip() and column else repr(column)


def _checked(record: Record, mapped: Mapping[str, str]) -> Checked:
    if record.fault is not None:
        return Checked(record.place, None, [record.fault])
    stored = _under_our_names(record.stored or {}, mapped)
    values = _under_our_names(record.values, mapped)
    ignored = sorted(
        {str(name) for name in record.values} - {*COLUMNS, "reference"} - {*mapped.values()}
        | {name for name, theirs in mapped.items() if name != theirs and name in record.values}
    )
    try:
        row = Row.model_validate({**values, **{name: name for name in stored if name == "image"}})
    except ValidationError as error:
        return Checked(record.place, None, faults_of(error), ignored)
    pictures: list[Callable[[], Image]] = []
    faults: list[str] = []
    for name in row.pictures:
        inside = stored.get("image") if row.images is None else None
        found = inside or _in_folder(name, record.folder)
        if isinstance(found, str):
            faults.append(found)
        else:
            pictures.append(found)
    if faults:
        return Checked(record.place, None, faults, ignored)
    answer = "" if row.answer is None and "answer" in values else row.answer
    return Checked(record.place, _sample(row, pictures), (), ignored, answer)


def _under_our_names(values: Mapping[Any, Any], mapped: Mapping[str, str]) -> dict[str, Any]:
    """The values by the schema's names; a column that was mapped stands for that name alone."""
    taken = set(mapped.values())
    kept = {str(name): value for name, value in values.items() if str(name) not in taken}
    return kept | {name: values[theirs] for name, theirs in mapped.items() if theirs in values}


def _in_folder(name: Any, folder: Path | None) -> Callable[[], Image] | str:
    """What opens a picture, or why it cannot be opened."""
    if not isinstance(name, str):
        return f"its picture is of type {type(name).__name__}, not the path of a file"
    if folder is None:
        return f"its picture {name!r} is a path, and a data set of the hub has no folder"
    if name.lower().startswith(("http://", "https://")):
        return f"its picture {name!r} is a URL. Download it, and give the path of the file"
    path = folder / name
    try:
        there = path.is_file()
    except (OSError, ValueError):  # too long a name, or one with a null byte
        there = False
    if not there:
        return f"there is no picture {path}"
    return opener(path)


def _sample(row: Row, pictures: Sequence[Callable[[], Image]]) -> Sample:
    system, turns = _system(row)
    question = row.question if row.question is not None else turns[-1].text
    facts = {
        "goal": row.goal,
        "category": row.category,
        "group": row.group,
        "picture": row.picture,
        "source": row.source,
    }
    return Sample(
        id=row.id or _id(row),
        question=question,
        label=row.label,
        target=row.target,
        image=pictures[0] if pictures else None,
        further_images=tuple(pictures[1:]),
        system=system,
        turns=tuple(_message(turn) for turn in turns) if len(turns) > 1 or _placed(turns) else (),
        facts={name: value for name, value in facts.items() if value is not None},
        prefill=row.prefill,
    )


def _system(row: Row) -> tuple[str | None, Sequence[Turn]]:
    """The system prompt, and the other turns."""
    turns = row.messages or []
    if turns and turns[0].role == "system":
        return turns[0].text, turns[1:]
    return row.system, turns


def _placed(turns: Sequence[Turn]) -> bool:
    return any(part["type"] == "image" for turn in turns for part in turn.parts)


def _message(turn: Turn) -> Message:
    return {"role": turn.role, "content": turn.parts}


def _id(row: Row) -> str:
    """An id made from what is asked; several answers to it share one."""
    content = row.model_dump_json(
        exclude={"id", "goal", "category", "group", "picture", "source", "answer"}, fallback=str
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]
