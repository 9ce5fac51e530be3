"""VLGuard: pictures with instructions to answer and instructions to refuse.

Zong et al., "Safety Fine-Tuning at (Almost) No Cost", ICML 2024, arXiv 2402.02207. 2,000 pictures
for training and 1,000 for testing. An unsafe picture has one instruction, which should be refused
(`unsafe`); a safe one has an instruction to answer (`safe_safe`) and one to refuse
(`safe_unsafe`).

None of it is part of this package. It is read from a folder, or downloaded from the hub at a
fixed revision, where it is gated: see its page there for terms and license. Pictures are read on
demand, from the published archives or from folders.
"""

from __future__ import annotations

import hashlib
import os
import random
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from safesight.benchmarks.hub import reaching
from safesight.errors import InputError, reason_of
from safesight.files import parsed
from safesight.types import TuningSample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["REPOSITORY", "REVISION", "SUBSETS", "Guarded", "read_vlguard", "vlguard"]

REPOSITORY = "ys-zong/VLGuard"
REVISION = "b0be37a1ab7accb14e10d6a0ec3ce62cfaff2d46"
"""Revision of the data set on the hub."""

Split = Literal["train", "test"]
Subset = Literal["safe_safe", "safe_unsafe", "unsafe"]
SUBSETS: tuple[Subset, ...] = ("safe_safe", "safe_unsafe", "unsafe")

COUNTS: Mapping[str, Mapping[Subset, int]] = {
    "train": {"safe_safe": 977, "safe_unsafe": 977, "unsafe": 1023},
    "test": {"safe_safe": 558, "safe_unsafe": 558, "unsafe": 442},
}
"""Number of instructions in each subset, as published."""
HASHES: Mapping[str, str] = {
    "train": "1b44eb5438090baf6b94aafa09099d88183c41162d0a1298b70535852516aca1",
    "test": "a0b6479d0add65d9d1c06da5c89babd30d411bda47146445c13f32778a114980",
}
"""SHA-256 of `train.json` and `test.json` in the authors' repository."""

# The key of an instruction in a record, and what it means.
_KEYS: Mapping[str, Subset] = {
    "safe_instruction": "safe_safe",
    "unsafe_instruction": "safe_unsafe",
    "instruction": "unsafe",
}


@dataclass(frozen=True)
class Guarded:
    """One split as read."""

    rows: tuple[TuningSample, ...]
    subsets: tuple[Subset, ...]
    """The subset of each row."""
    sha256: str
    """Hash of the file it was read from."""
    pictures: tuple[str, ...] = ()
    """The name of each row's picture."""

    @property
    def counts(self) -> dict[Subset, int]:
        """The number of rows in each subset."""
        found = Counter(self.subsets)
        return {subset: found[subset] for subset in SUBSETS}

    def of(self, subset: Subset) -> list[TuningSample]:
        """The rows of one subset, in file order."""
        return [row for row, of in zip(self.rows, self.subsets, strict=True) if of == subset]


def vlguard(
    n: int | None = None,
    *,
    seed: int = 0,
    split: Split = "train",
    folder: str | Path | None = None,
    complete: bool = True,
) -> list[TuningSample]:
    """Rows of VLGuard: instructions to refuse are harmful, the others benign.

    Args:
        n: Number of rows, drawn with the seed; None for all, in file order.
        seed: Seed of the draw.
        split: "train" or "test".
        folder: Holds `train.json` and `test.json`; None downloads them from the hub.
        complete: Refuse a split whose number of rows differs from the published one.

    Raises:
        InputError: it cannot be downloaded or read, or is not complete.
    """
    on_hub = folder is None
    place = _fetched(f"{split}.json").parent if folder is None else Path(os.path.expanduser(folder))
    found = _read(place, split, on_hub)
    if complete and found.counts != COUNTS[split]:
        raise InputError(
            f"{place / f'{split}.json'} has {_words(found.counts)} instructions, but VLGuard has "
            f"{_words(COUNTS[split])}. Download it again, or pass complete=False."
        )
    rows = list(found.rows)
    if n is None or n >= len(rows):
        return rows
    return random.Random(f"vlguard/{split}/{seed}").sample(rows, n)


def read_vlguard(folder: str | Path, split: Split = "train") -> Guarded:
    """One split in a folder, complete or not.

    The pictures may be in the folder, in a subfolder named after the split, or in `<split>.zip`.

    Raises:
        InputError: there is no such file, or a record does not have the published form.
    """
    return _read(Path(os.path.expanduser(folder)), split, on_hub=False)


def _read(place: Path, split: Split, on_hub: bool) -> Guarded:
    if split not in COUNTS:
        raise InputError(f"VLGuard has no split {split!r}. Use train or test.")
    file = place / f"{split}.json"
    try:
        data = file.read_bytes()
        records = parsed(data)
    except FileNotFoundError:
        raise InputError(
            f"There is no {split}.json in {place}. Pass the VLGuard folder that holds it."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read ({reason_of(error)}). Download it again."
        ) from error
    if not isinstance(records, list) or not records:
        raise InputError(f"{file} is not a list of records. Download it again.")
    found = [
        row
        for index, record in enumerate(records)
        for row in _rows(record, f"{split}/{index}", partial(_picture, place, split, on_hub))
    ]
    rows, subsets = zip(*found, strict=True)
    named = [str(record["image"]) for record in records for _ in record["instr-resp"]]
    return Guarded(rows, subsets, hashlib.sha256(data).hexdigest(), tuple(named))


def _rows(
    record: Any, place: str, render: Callable[[PurePosixPath], Image]
) -> list[tuple[TuningSample, Subset]]:
    """The instructions for one picture; `render` opens a picture by name."""
    name = f"Record {place} of VLGuard"
    if not (
        isinstance(record, dict)
        and isinstance(record.get("id"), str)
        and isinstance(record.get("image"), str)
        and isinstance(record.get("safe"), bool)
        and isinstance(record.get("instr-resp"), list)
        and record["instr-resp"]
    ):
        raise InputError(f"{name} lacks an id, image, safe or instr-resp. Download the file again.")
    picture = PurePosixPath(record["image"])
    if picture.is_absolute() or ".." in picture.parts:
        raise InputError(f"{name} names a picture outside its folder. Do not use this file.")
    made = [_row(pair, place, partial(render, picture)) for pair in record["instr-resp"]]
    wanted = {"safe_safe", "safe_unsafe"} if record["safe"] else {"unsafe"}
    if {subset for _, subset in made} != wanted:
        raise InputError(
            f"{name} says safe={record['safe']}, but its instructions do not match. "
            "Download the file again."
        )
    return made


def _row(pair: Any, place: str, render: Callable[[], Image]) -> tuple[TuningSample, Subset]:
    keys = [key for key in _KEYS if isinstance(pair, dict) and isinstance(pair.get(key), str)]
    if len(keys) != 1 or not isinstance(pair.get("response"), str):
        raise InputError(
            f"Record {place} of VLGuard has an instruction without a response. "
            "Download the file again."
        )
    subset = _KEYS[keys[0]]
    harmful = subset != "safe_safe"
    row = TuningSample(
        # The data set's own ids and pictures are not unique.
        id=f"vlguard/{place}/{subset}",
        group=f"vlguard/{place}",  # both instructions for one picture
        question=pair[keys[0]],
        # The data set has no compliant answers to harmful instructions.
        answer="" if harmful else pair["response"],
        label="harmful" if harmful else "benign",
        set="forget" if harmful else "retain",
        image=render,
        refusal=pair["response"] if harmful else None,
    )
    return row, subset


def _picture(folder: Path, split: Split, on_hub: bool, name: PurePosixPath) -> Image:
    """Open it from a folder, or from the archive, which is downloaded on first use.

    Raises:
        InputError: it is in neither, or cannot be opened.
    """
    from safesight.models.pictures import open_picture

    for place in (folder / split / name, folder / name):
        if place.is_file():
            return open_picture(place)
    archive = _fetched(f"{split}.zip") if on_hub else folder / f"{split}.zip"
    if archive.is_file():
        packed = _unpacked(archive, (f"{split}/{name}", str(name)))
        if packed is not None:
            return open_picture(packed, str(name))
    raise InputError(
        f"The picture {str(name)!r} is neither in {folder / split} nor in {archive}. The pictures "
        f"of VLGuard are gated: download {split}.zip from {REPOSITORY} on the hub and put it there."
    )


def _unpacked(archive: Path, names: Sequence[str]) -> bytes | None:
    """The first of these files in an archive, or None if it has none of them.

    Raises:
        InputError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as files:
            known = set(files.namelist())
            return next((files.read(name) for name in names if name in known), None)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError(f"{archive} is damaged ({error}). Download it again.") from error


def _fetched(name: str) -> Path:
    """A file of the data set in the hub's cache, downloaded if missing.

    Raises:
        InputError: it cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    with reaching(REPOSITORY):
        file = hf_hub_download(REPOSITORY, name, repo_type="dataset", revision=REVISION)
    return Path(file)


def _words(counts: Mapping[Subset, int]) -> str:
    return ", ".join(f"{counts[subset]} {subset}" for subset in SUBSETS)
