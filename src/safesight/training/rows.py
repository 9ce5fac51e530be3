"""Read training rows from files and check them.

A row is a `safesight.types.TuningSample`. Nothing here knows about models. How a method uses a
row (its loss, its refusal) is in that method's file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from safesight import registry
from safesight.data.pictures import opener
from safesight.errors import InputError, PluginError, reason_of
from safesight.files import parsed
from safesight.fitting.data import refuse_repeated, rows_hash
from safesight.guests import rows_fault
from safesight.types import Label, TuningSample, TuningSet

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["TuningData", "holds_rows", "load_dataset", "read_rows", "rows_hash"]

_KEYS = {"id", "question", "answer", "refusal", "label", "set", "image"}
_TOLD = {"set", "refusal"}
"""Keys of a row that prompts do not have."""
_SEVERAL = {"images", "messages", "turns"}
"""Columns for several pictures or turns."""


@dataclass(frozen=True)
class TuningData:
    """The forget set and the retain set of a run, checked.

    Raises:
        InputError: a set is empty, an id is repeated, the sets overlap, a harmful request is
            in the retain set, or a question is empty.

    Example:
        >>> from safesight.types import TuningSample
        >>> data = TuningData([TuningSample("f", "a?", "b.", "harmful", "forget"),
        ...                    TuningSample("r", "c?", "d.", "benign", "retain")])
        >>> len(data.forget), len(data.retain)
        (1, 1)
    """

    rows: Sequence[TuningSample]
    needed: tuple[TuningSet, ...] = get_args(TuningSet)
    """The sets that must not be empty."""

    def __post_init__(self) -> None:
        refuse_repeated(self.rows)
        for name in self.needed:
            if not any(row.set == name for row in self.rows):
                raise InputError(
                    f"The {name} set is empty. Give rows whose set is {name!r}: forget rows are "
                    "harmful requests, retain rows are benign ones."
                )
        for row in self.rows:
            if not row.question.strip():
                raise InputError(f"Row {row.id!r} has no question. Fill it in or drop the row.")
            if row.set == "retain" and row.label == "harmful":
                raise InputError(
                    f"Row {row.id!r} is harmful and in the retain set, so its answer would be "
                    "taught. Move it to the forget set or drop it."
                )
        _refuse_overlap(self.forget, self.retain)

    @cached_property
    def forget(self) -> tuple[TuningSample, ...]:
        """The rows to unlearn or refuse."""
        return tuple(row for row in self.rows if row.set == "forget")

    @cached_property
    def retain(self) -> tuple[TuningSample, ...]:
        """The rows whose behavior should stay the same."""
        return tuple(row for row in self.rows if row.set == "retain")

    @cached_property
    def hash(self) -> str:
        """Hex hash of all rows in order: texts, labels, sets and pixels."""
        return rows_hash(self.rows)

    def need_answers(self, method: str, *sets: TuningSet) -> None:
        """Check that every row of these sets has an answer.

        Raises:
            InputError: a row has none; the message names it.
        """
        for row in self.rows:
            if row.set in sets and not row.answer.strip():
                raise InputError(
                    f"The {row.set} row {row.id!r} has no answer, and {method} trains on answers. "
                    "Fill it in or drop the row."
                )


def _refuse_overlap(forget: Sequence[TuningSample], retain: Sequence[TuningSample]) -> None:
    """Compares what the model is shown, ignoring ids."""
    shown = {row.digest: row.id for row in forget}
    for row in retain:
        if row.digest in shown:
            raise InputError(
                f"The forget row {shown[row.digest]!r} and the retain row {row.id!r} ask the same "
                "question about the same picture. Keep one of them."
            )


def load_dataset(name: str) -> Callable[..., list[TuningSample]]:
    """A registered data set; what it returns is looked at.

    Raises:
        UnknownNameError: there is no such data set.
        PluginError: what it returns are no rows (raised when it is called).

    Example:
        >>> len(load_dataset("testbed")(2))
        2
    """
    plain: Callable[..., Any] = registry.load("dataset", name)

    @wraps(plain)
    def rows(*args: Any, **which: Any) -> list[TuningSample]:
        found = plain(*args, **which)
        if fault := rows_fault(found):
            raise PluginError(
                f"The data set {name!r} {fault}. Repair the package that it comes with."
            )
        return list(found)

    return rows


def read_rows(path: str | os.PathLike[str]) -> list[TuningSample]:
    """The rows of a JSON array or a JSONL file.

    Every row is an object with `id`, `question`, `answer`, `label` (harmful or benign) and,
    optionally, `set` (forget or retain; by default forget for harmful rows), `refusal`, and
    `image`: the path of a picture, relative to the file's folder. A row is one question with at
    most one picture.

    Raises:
        InputError: the file or a row cannot be used; the message says which and why.
    """
    place = Path(path)
    try:
        text = place.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{place} cannot be read ({reason_of(error)}). Pass a JSON or JSONL file."
        ) from error
    return [_row(entry, f"{place}, row {n}", place.parent) for n, entry in _entries(text, place)]


def holds_rows(path: str | os.PathLike[str]) -> bool:
    """Whether a JSON or JSONL file says what to do with its rows, as a file of prompts does not.

    A file that cannot be read says nothing here, and what is wrong when it is read.
    """
    place = Path(path)
    if place.suffix.lower() not in (".json", ".jsonl"):
        return False
    try:
        entries = _entries(place.read_text(encoding="utf-8-sig"), place)
    except (OSError, UnicodeDecodeError, InputError):
        return False
    return any(isinstance(each, Mapping) and _TOLD & each.keys() for _, each in entries)


def _entries(text: str, place: Path) -> list[tuple[int, Any]]:
    """Every entry with its number, counted from 1."""
    try:
        if text.lstrip().startswith("["):
            return list(enumerate(parsed(text), 1))
        # Not splitlines: a text may have other ends of line, such as U+2028.
        lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        return [(n, parsed(line)) for n, line in lines]
    except ValueError as error:
        raise InputError(
            f"{place} is neither a JSON array nor one JSON object per line ({reason_of(error)})."
        ) from error


def _row(entry: Any, where: str, folder: Path) -> TuningSample:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is not an object. Write one with {', '.join(sorted(_KEYS))}.")
    for name in _SEVERAL & entry.keys():
        raise InputError(
            f"{where} has {name!r}, but a row to train on is one question with at most one "
            "picture. Put the question into question and the path of its picture into image."
        )
    unknown = sorted(map(str, entry.keys() - _KEYS))
    if unknown:
        raise InputError(f"{where} has {unknown[0]!r}, which is not one of {sorted(_KEYS)}.")
    texts = {name: _text(entry, name, where) for name in ("question", "answer", "refusal")}
    label = _choice(entry, "label", get_args(Label), where)
    chosen = entry if "set" in entry else {"set": "forget" if label == "harmful" else "retain"}
    if texts["question"] is None:
        raise InputError(f"{where} has no question.")
    return TuningSample(
        id=str(entry.get("id", where)),
        question=texts["question"],
        answer=texts["answer"] or "",
        label=label,
        set=_choice(chosen, "set", get_args(TuningSet), where),
        image=_image(_text(entry, "image", where), folder, where),
        refusal=texts["refusal"],
    )


def _text(entry: Mapping[str, Any], name: str, where: str) -> str | None:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}: {name} is {value!r}, not a text.")
    return value


def _choice(entry: Mapping[str, Any], name: str, allowed: Sequence[str], where: str) -> Any:
    value = entry.get(name)
    if value not in allowed:
        said = "is missing" if value is None else f"is {value!r}"
        raise InputError(f"{where}: its {name} {said}. It must be {' or '.join(allowed)}.")
    return value


def _image(name: str | None, folder: Path, where: str) -> Callable[[], Image] | None:
    if name is None:
        return None
    path = folder / name
    if not path.is_file():
        raise InputError(
            f"{where}: there is no picture {path}. Paths are relative to the file's folder."
        )
    return opener(path)
