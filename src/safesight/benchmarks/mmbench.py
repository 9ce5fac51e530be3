"""MMBench: multiple-choice questions, each asked with its choices in every rotation.

Liu et al., ECCV 2024, arXiv 2307.06281. 1,164 questions of the English development split (the test
split has no public answers). A question counts as right only if every rotation is answered right
(circular evaluation): the rotations are the shots of one sample, 4,329 in all.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from safesight.benchmarks.choices import LETTERS, options, rotations
from safesight.benchmarks.folder import Folder, Missing, cell, stored
from safesight.benchmarks.published import Benchmark
from safesight.benchmarks.spec import Spec
from safesight.data.records import Record
from safesight.errors import InputError
from safesight.types import LETTER, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MMBENCH"]

_TABLES = (
    "MMBench_DEV_EN.tsv",
    "mmbench_dev_en_20231003.tsv",
    "mmbench_dev_en.tsv",
    "en/dev-*.parquet",
)
_ROTATED = 1_000_000
"""From this index on, a row is a rotation of an earlier one."""
_EMPTY = ("", "nan", "None")


def _read(folder: Folder) -> Iterator[Sample]:
    for row in folder.rows(*_TABLES):
        index = cell(row, "index")
        try:
            rotated = int(float(index)) >= _ROTATED
        except ValueError as error:
            raise InputError(
                f"MMBench, {row.place}: the index {index!r} is not a number. Download it again."
            ) from error
        if not rotated:
            yield _sample(row, index)


def _sample(row: Record, index: str) -> Sample:
    values = (str(row.values.get(letter) or "").strip() for letter in LETTERS[:5])
    choices = [value for value in values if value not in _EMPTY]
    answer = cell(row, "answer")
    if len(answer) != 1 or answer not in LETTERS[: len(choices)]:
        raise InputError(
            f"MMBench, {row.place}: there is no right choice. Take the development split, whose "
            "answers are public."
        )
    orders = rotations(choices)
    asked = [_asked(row, order) for order in orders]
    # By place: two choices may have the same text.
    place = LETTERS.index(answer)
    targets = [LETTERS[(place - turn) % len(choices)] for turn in range(len(choices))]
    return Sample(
        id=f"mmbench/{index}",
        question=asked[0],
        label="benign",
        target=answer,
        image=_picture(row, index),
        shots=tuple(asked),
        facts={
            "answer": LETTER,
            "choices": choices,
            "rotations": [
                {"target": letter, "choices": order}
                for letter, order in zip(targets, orders, strict=True)
            ],
            "category": cell(row, "category"),
            "source": "mmbench",
        },
    )


def _asked(row: Record, choices: list[str]) -> str:
    hint = str(row.values.get("hint") or "").strip()
    before = "" if hint in _EMPTY else f"Hint: {hint}\n"
    return (
        f"{before}Question: {cell(row, 'question')}\nOptions:\n{options(choices)}\n"
        "Please select the correct answer from the options above. \n"
    )


def _picture(row: Record, index: str) -> Callable[[], Image]:
    if row.stored is not None:
        return stored(row, f"mmbench {index}")
    encoded = str(row.values.get("image") or "")
    return partial(_decoded, encoded, index) if encoded else Missing(f"mmbench {index}")


def _decoded(encoded: str, index: str) -> Image:
    from safesight.models.pictures import open_picture

    try:
        content = base64.b64decode(encoded)
    except binascii.Error as error:
        raise InputError(
            f"The picture of question {index} of MMBench is damaged ({error}). Download it again."
        ) from error
    return open_picture(content, f"mmbench {index}")


MMBENCH = Benchmark(
    Spec(
        name="mmbench",
        title="MMBench (English, dev)",
        group="utility",
        version="1.0 (20231003)",
        license="Apache-2.0 (not verified)",
        paper="arXiv 2307.06281",
        source="https://github.com/open-compass/MMBench",
        get="take MMBench_DEV_EN.tsv from the links of https://github.com/open-compass/MMBench",
        folder="mmbench",
        hub="lmms-lab/MMBench",
        files=("en/dev-*.parquet",),
        split="dev",
        counts={"mmbench": 1164},
        counted="source",
        prompt=(
            "Hint: {hint}\nQuestion: {question}\nOptions:\nA. {A}\nB. {B}\n...\n"
            "Please select the correct answer from the options above. \n"
        ),
        max_new_tokens=128,
        authors_length="not fixed",
        authors_judge="the letter of the answer; GPT picks the choice where no rule finds one",
        deviations=(
            "An answer in which no rule finds a choice is wrong: no model is asked to pick one.",
            "The rotations are made here from the first row of each question; those in the file "
            "are the same ones and are skipped.",
        ),
    ),
    _read,
)
