"""VLGuard: pictures with instructions to answer and instructions to refuse.

Zong et al., "Safety Fine-Tuning at (Almost) No Cost", ICML 2024, arXiv 2402.02207. 2,000
pictures to train on and 1,000 to test. An unsafe picture has one instruction, which is to be
refused (`unsafe`); a safe one has an instruction to answer (`safe_safe`) and one to refuse
(`safe_unsafe`).

Nothing of it is part of this package. It is read from a folder, or fetched from the hub at a
fixed revision, where it is gated: its terms and its licence are on its page there. Pictures
are read when they are asked for, out of the archives as they come or out of folders.
"""

from __future__ import annotations

import hashlib
import json
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from safesight.errors import InputError
from safesight.types import TuningSample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["REPOSITORY", "REVISION", "SUBSETS", "Guarded", "read_vlguard", "vlguard"]

REPOSITORY = "ys-zong/VLGuard"
REVISION = "b0be37a1ab7accb14e10d6a0ec3ce62cfaff2d46"
"""Of the data set on the hub."""

Split = Literal["train", "test"]
Subset = Literal["safe_safe", "safe_unsafe", "unsafe"]
SUBSETS: tuple[Subset, ...] = ("safe_safe", "safe_unsafe", "unsafe")

COUNTS: Mapping[str, Mapping[Subset, int]] = {
    "train": {"safe_safe": 977, "safe_unsafe": 977, "unsafe": 1023},
    "test": {"safe_safe": 558, "safe_unsafe": 558, "unsafe": 442},
}
"""Instructions of each subset, as published."""
HASHES: Mapping[str, str] = {
    "train": "1b44eb5438090baf6b94aafa09099d88183c41162d0a1298b70535852516aca1",
    "test": "a0b6479d0add65d9d1c06da5c89babd30d411bda47146445c13f32778a114980",
}
"""SHA-256 of `train.json` and `test.json` in the authors' repository."""

# Where an instruction stands in a record, and what it is then.
_KEYS: Mapping[str, Subset] = {
    "safe_instruction": "safe_safe",
    "unsafe_instruction": "safe_unsafe",
    "instruction": "unsafe",
}


@dataclass(frozen=True)
class Guarded:
    """One split as it was read."""

    rows: tuple[TuningSample, ...]
    subsets: tuple[Subset, ...]
    """Of each row."""
    sha256: str
    """Of the file it was read from."""

    @property
    def counts(self) -> dict[Subset, int]:
        """Rows of each subset."""
        found = Counter(self.subsets)
        return {subset: found[subset] for subset in SUBSETS}

    def of(self, subset: Subset) -> list[TuningSample]:
        """The rows of one subset, in the order of the file."""
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
        n: How many, drawn with the seed; None is all, in the order of the file.
        seed: Of the draw.
        split: "train" or "test".
        folder: Holds `train.json` and `test.json`; None fetches them from the hub.
        complete: Refuse a split that has not as many rows as were published.

    Raises:
        InputError: it cannot be fetched or read, or is not complete.
    """
    on_hub = folder is None
    place = _fetched(f"{split}.json").parent if folder is None else Path(folder).expanduser()
    found = _read(place, split, on_hub)
    if complete and found.counts != COUNTS[split]:
        raise InputError(
            f"{place / f'{split}.json'} has {_words(found.counts)} instructions, but VLGuard has "
            f"{_words(COUNTS[split])}. Fetch it again, or pass complete=False."
        )
    rows = list(found.rows)
    if n is None or n >= len(rows):
        return rows
    return random.Random(f"vlguard/{split}/{seed}").sample(rows, n)


def read_vlguard(folder: str | Path, split: Split = "train") -> Guarded:
    """One split of a folder, as it is there, complete or not.

    The pictures may lie in the folder, in a folder named as the split, or in `<split>.zip`.

    Raises:
        InputError: there is no such file, or a record is not of the published form.
    """
    return _read(Path(folder).expanduser(), split, on_hub=False)


def _read(place: Path, split: Split, on_hub: bool) -> Guarded:
    if split not in COUNTS:
        raise InputError(f"VLGuard has no split {split!r}. Use train or test.")
    file = place / f"{split}.json"
    try:
        data = file.read_bytes()
        records = json.loads(data)
    except FileNotFoundError:
        raise InputError(
            f"There is no {split}.json in {place}. Point to the folder of VLGuard that holds it."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}). Fetch it again.") from error
    if not isinstance(records, list) or not records:
        raise InputError(f"{file} is not a list of records. Fetch it again.")
    found = [
        row
        for index, record in enumerate(records)
        for row in _rows(record, f"{split}/{index}", partial(_picture, place, split, on_hub))
    ]
    rows, subsets = zip(*found, strict=True)
    return Guarded(rows, subsets, hashlib.sha256(data).hexdigest())


def _rows(
    record: Any, place: str, render: Callable[[PurePosixPath], Image]
) -> list[tuple[TuningSample, Subset]]:
    """The instructions of one picture; `render` draws a picture by its name."""
    name = f"Record {place} of VLGuard"
    if not (
        isinstance(record, dict)
        and isinstance(record.get("id"), str)
        and isinstance(record.get("image"), str)
        and isinstance(record.get("safe"), bool)
        and isinstance(record.get("instr-resp"), list)
        and record["instr-resp"]
    ):
        raise InputError(f"{name} lacks an id, image, safe or instr-resp. Fetch the file again.")
    picture = PurePosixPath(record["image"])
    if picture.is_absolute() or ".." in picture.parts:
        raise InputError(f"{name} names a picture outside its folder. Do not use this file.")
    made = [_row(pair, place, partial(render, picture)) for pair in record["instr-resp"]]
    wanted = {"safe_safe", "safe_unsafe"} if record["safe"] else {"unsafe"}
    if {subset for _, subset in made} != wanted:
        raise InputError(
            f"{name} says safe={record['safe']}, and its instructions are not those of such a "
            "picture. Fetch the file again."
        )
    return made


def _row(pair: Any, place: str, render: Callable[[], Image]) -> tuple[TuningSample, Subset]:
    keys = [key for key in _KEYS if isinstance(pair, dict) and isinstance(pair.get(key), str)]
    if len(keys) != 1 or not isinstance(pair.get("response"), str):
        raise InputError(
            f"Record {place} of VLGuard has an instruction without a response. "
            "Fetch the file again."
        )
    subset = _KEYS[keys[0]]
    harmful = subset != "safe_safe"
    row = TuningSample(
        # Ids and pictures of the set itself are not unique.
        id=f"vlguard/{place}/{subset}",
        question=pair[keys[0]],
        # What complying with a harmful instruction would be, the set does not say.
        answer="" if harmful else pair["response"],
        label="harmful" if harmful else "benign",
        set="forget" if harmful else "retain",
        image=render,
        refusal=pair["response"] if harmful else None,
    )
    return row, subset


def _picture(folder: Path, split: Split, on_hub: bool, name: PurePosixPath) -> Image:
    """From a folder, or out of the archive, which is fetched when it is first needed.

    Raises:
        InputError: it is in neither.
    """
    from PIL import Image

    for place in (folder / split / name, folder / name):
        if place.is_file():
            with Image.open(place) as picture:
                return picture.convert("RGB")
    archive = _fetched(f"{split}.zip") if on_hub else folder / f"{split}.zip"
    if archive.is_file():
        with zipfile.ZipFile(archive) as files:
            for inside in (f"{split}/{name}", str(name)):
                if inside in files.namelist():
                    with files.open(inside) as file, Image.open(file) as picture:
                        return picture.convert("RGB")
    raise InputError(
        f"The picture {str(name)!r} is neither in {folder / split} nor in {archive}. The pictures "
        f"of VLGuard are gated: get {split}.zip from {REPOSITORY} on the hub and put it there."
    )


def _fetched(name: str) -> Path:
    """A file of the set in the hub's cache, fetched if it is not there.

    Raises:
        InputError: it cannot be fetched.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        file = hf_hub_download(REPOSITORY, name, repo_type="dataset", revision=REVISION)
    except GatedRepoError as error:
        raise InputError(
            f"{REPOSITORY} is gated. Accept its terms on its page of the hub, log in with "
            "`hf auth login`, and try again."
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{REPOSITORY} cannot be fetched from the hub ({type(error).__name__}). Check the "
            "network, or get its files elsewhere and name their folder."
        ) from error
    return Path(file)


def _words(counts: Mapping[Subset, int]) -> str:
    return ", ".join(f"{counts[subset]} {subset}" for subset in SUBSETS)
