"""Notes beside the logs, files written as a whole, and the scorecard of a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from safesight import evals
from safesight.compare.folder import NOTES, RunNotes, read_notes, scorecard_of, write_text
from safesight.errors import StorageError
from tests.compare.fake_answers import FakeAnswer, cell


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose logs hold two arms on four samples."""
    answers: list[FakeAnswer] = [*cell("hhhh"), *cell("rrrh", defense="sasa")]
    monkeypatch.setattr(evals, "read_answers", lambda folder: answers, raising=False)
    monkeypatch.setattr(evals, "skipped", lambda folder: ["x.eval is not finished."], raising=False)
    return tmp_path


def test_notes_reach_the_scorecard(logs: Path) -> None:
    notes = RunNotes(model="testbed", seed=7, seconds=12.5, artifacts={"sasa": {"seed": 3}})
    write_text(logs / NOTES, notes.model_dump_json())
    card = scorecard_of(logs)
    assert (card.model, card.seconds, card.provenance.seed) == ("testbed", 12.5, 7)
    assert card.provenance.artifacts == {"sasa": {"seed": 3}}
    assert any("not finished" in remark for remark in card.provenance.notes)


def test_logs_without_notes_give_rates_and_say_what_is_missing(logs: Path) -> None:
    card = scorecard_of(logs)
    assert card.rows
    assert not card.overhead
    assert card.seconds == 0.0
    assert any(NOTES in remark for remark in card.provenance.notes)


def test_damaged_notes_are_named(logs: Path) -> None:
    (logs / NOTES).write_text('{"model": "testbed", "mood": 1}')
    with pytest.raises(StorageError, match=NOTES):
        scorecard_of(logs)


def test_notes_of_other_settings_are_another_run() -> None:
    notes = RunNotes(model="testbed", identity="f32", device="cpu", seed=0, limit=10)
    assert notes.same_run(notes.model_copy(update={"seconds": 3.0}))
    for changed in ({"seed": 1}, {"identity": "bf16"}, {"device": "cuda:0"}):
        assert not notes.same_run(notes.model_copy(update=changed))


def test_notes_from_before_they_named_the_version_are_read_and_are_another_run(
    tmp_path: Path,
) -> None:
    (tmp_path / NOTES).write_text('{"model": "testbed", "seed": 0}')
    before = read_notes(tmp_path)
    assert before is not None
    assert not before.same_run(RunNotes(model="testbed", identity="f32", device="cpu"))


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "new" / "card.json", "old")

    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(StorageError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["card.json"]


def test_a_folder_without_notes_has_none(tmp_path: Path) -> None:
    assert read_notes(tmp_path) is None


def test_a_link_is_followed_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "hello")
    assert os.read(reader, 10) == b"hello"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not be written"):
        write_text(tmp_path, "text")
