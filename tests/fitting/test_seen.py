"""What a fit saw of somebody's rows is kept with the artifact, and found again in other files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safesight.defenses import Artifact
from safesight.errors import ArtifactError
from safesight.fitting.data import FitData
from safesight.fitting.seen import Seen, rows_of
from safesight.types import Sample


def red() -> Image.Image:
    return Image.new("RGB", (4, 4), "red")


def blue() -> Image.Image:
    return Image.new("RGB", (4, 4), "blue")


def row(number: int, group: str | None = None, **more: Any) -> Sample:
    facts = {} if group is None else {"group": group}
    return Sample(str(number), f"what is {number}?", "harmful", "", facts=facts, **more)


FITTED = FitData([row(0, image=red), row(1, "g")], [], [row(2)])
SEEN = Seen.by([rows_of(FITTED, [row(3)])])


@pytest.mark.parametrize(
    ("sample", "seen"),
    [
        (replace(row(0, image=red), id="other"), True),
        (row(0, image=red, prefill="Sure,"), True),
        (row(0, image=red, system="be brief"), False),
        (row(0, image=blue), False),
        (row(0), False),
        (row(2), True),
        (row(3), False),
    ],
)
def test_a_row_is_known_by_what_the_model_is_shown(sample: Sample, seen: bool) -> None:
    assert bool(SEEN.among([sample])) == seen


def test_groups_count_only_in_a_file_of_which_a_row_was_seen() -> None:
    assert not SEEN.among([row(7, "g")])
    assert [s.id for s in SEEN.among([row(7, "g"), row(1, "g"), row(8)])] == ["7", "1"]


def saved(folder: Path) -> Artifact:
    artifact = Artifact("sasa", {}, card={"data": {"hash": "x"}})
    artifact = artifact.with_split("mine.csv", rows_of(FITTED, [row(3)]))
    artifact.save(folder)
    return artifact


def test_the_split_is_saved_beside_the_numbers(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    assert Artifact.load(tmp_path / "a") == artifact
    assert artifact.card["data"]["rows"] == {"calibration": 1, "fit": 2, "test": 1}
    text = (tmp_path / "a" / "split.jsonl").read_text()
    assert "what is" not in text  # prompts may be harmful, or secret
    saved(tmp_path / "a")  # an artifact with a split is replaced like any other


@pytest.mark.parametrize("change", ["edit", "remove", "cut"])
def test_a_split_that_was_changed_is_refused(tmp_path: Path, change: str) -> None:
    saved(tmp_path)
    path = tmp_path / "split.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    if change == "remove":
        path.unlink()
    else:
        path.write_text("".join(lines[1:]).replace("fit", "test" if change == "edit" else "fit"))
    with pytest.raises(ArtifactError, match=r"split\.jsonl"):
        Artifact.load(tmp_path)
