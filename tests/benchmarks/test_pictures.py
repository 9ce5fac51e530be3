"""Neutral questions about a folder of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from safesight.benchmarks.pictures import QUESTIONS, pictures
from safesight.defenses.vsfa import is_neutral
from safesight.errors import InputError
from tests import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    for n in range(20):
        tiny.picture(n).save(tmp_path / ("below" if n % 2 else "") / f"{n}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_every_picture_is_asked_in_two_families(folder: Path) -> None:
    rows = pictures(folder=folder) + pictures(folder=folder, split="test")
    assert len(rows) == len({row.id for row in rows}) == 40
    assert {row.id.rsplit("/", 1)[0] for row in rows} >= {"0.png", "below/1.png"}
    assert all(row.picture() is not None and not row.answer for row in rows)
    assert all(map(is_neutral, rows))


def test_splits_share_no_picture(folder: Path) -> None:
    train, test = (
        {row.id.rsplit("/", 1)[0] for row in pictures(folder=folder, split=split)}
        for split in ("train", "test")
    )
    assert train
    assert test
    assert not train & test


def test_a_draw_repeats(folder: Path) -> None:
    def drawn() -> list[tuple[str, str]]:
        return [(row.id, row.question) for row in pictures(5, folder=folder, seed=3)]

    assert drawn() == drawn()
    assert len(pictures(5, folder=folder)) == 5
    assert len(pictures(folder=folder, per_picture=1)) < len(pictures(folder=folder))


def test_what_cannot_be_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder=DIR"):
        pictures()
    with pytest.raises(InputError, match="no pictures for 'train'"):
        pictures(folder=tmp_path / "gone")
    with pytest.raises(InputError, match=f"Use 1 to {len(QUESTIONS)}"):
        pictures(folder=folder, per_picture=0)
    with pytest.raises(InputError, match="no split"):
        pictures(folder=folder, split="fit")  # type: ignore[arg-type]
    (folder / "0.png").write_text("broken")
    rows = pictures(folder=folder) + pictures(folder=folder, split="test")
    broken = next(row for row in rows if row.id.startswith("0.png"))
    with pytest.raises(InputError, match=r"0\.png.*not in a readable format"):
        broken.picture()
