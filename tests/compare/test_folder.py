"""Notes beside the logs, files written as a whole, and the scorecard of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from safesight import evals
from safesight.compare.folder import NOTES, RunNotes, read_notes, scorecard_of
from safesight.errors import StorageError
from safesight.files import write_text
from tests.compare.fake_answers import FakeAnswer, cell


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose logs hold two arms on four samples."""
    answers: list[FakeAnswer] = [*cell("hhhh"), *cell("rrrh", defense="sasa")]
    monkeypatch.setattr(evals, "read_answers", lambda folder, judge=None: answers, raising=False)
    monkeypatch.setattr(
        evals, "skipped", lambda folder, judge=None: ["x.eval is not finished."], raising=False
    )
    return tmp_path


def test_notes_reach_the_scorecard(logs: Path) -> None:
    notes = RunNotes(
        model="testbed",
        seed=7,
        seconds=12.5,
        artifacts={"sasa": {"seed": 3}},
        only={"category": ["weapon"]},
        remarks=["sasa saw 3 of 4 rows."],
        outside={"sasa": ["sasa was calibrated on short prompts."]},
    )
    write_text(logs / NOTES, notes.model_dump_json())
    card = scorecard_of(logs)
    assert (card.model, card.seconds, card.provenance.seed) == ("testbed", 12.5, 7)
    assert card.provenance.artifacts == {"sasa": {"seed": 3}}
    for part in (
        "not finished",
        "only those with category=weapon",
        "sasa saw 3 of 4 rows.",
        "on short",
    ):
        assert any(part in remark for remark in card.provenance.notes)


def test_answers_that_were_cut_off_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [*cell("hh", metadata={"cut": True}), *cell("rr", task="text_harm")]
    monkeypatch.setattr(evals, "skipped", lambda folder, judge=None: [], raising=False)
    notes = scorecard_of(tmp_path, answers).provenance.notes
    assert any(
        note.startswith("2 of 4 answers (image_harm) were cut off") and "--max-tokens" in note
        for note in notes
    )


def test_requests_of_two_draws_are_said_not_to_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may hold the attacked requests of one seed and the plain ones of another."""
    monkeypatch.setattr(evals, "skipped", lambda folder, judge=None: [], raising=False)

    def notes(plain: str) -> list[str]:
        attacked = cell("h", task="image_harm+prefill", facts={"plain": plain})
        return scorecard_of(tmp_path, [*cell("hh"), *attacked]).provenance.notes

    assert not any("different requests" in note for note in notes("s-1"))
    said = next(note for note in notes("other") if "different requests" in note)
    assert said.startswith("image_harm+prefill and image_harm were asked of none about")


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


def test_what_was_said_of_answers_stays_with_them() -> None:
    """A second call on the folder has other files and remarks; the first answers are there."""
    before = RunNotes(model="testbed", remarks=["probe saw 3 rows."], adaptive=["a+pgd8"])
    after = RunNotes(model="testbed", remarks=["sasa saw 1 row."]).with_those_of(before)
    assert after["remarks"] == ["probe saw 3 rows.", "sasa saw 1 row."]
    elsewhere = RunNotes(model="testbed", identity="of another engine").with_those_of(before)
    assert elsewhere["remarks"] == []
    assert (after["adaptive"], after["data"]) == (["a+pgd8"], {})


def test_notes_from_before_they_named_the_version_are_read_and_are_another_run(
    tmp_path: Path,
) -> None:
    (tmp_path / NOTES).write_text('{"model": "testbed", "seed": 0}')
    before = read_notes(tmp_path)
    assert before is not None
    assert not before.same_run(RunNotes(model="testbed", identity="f32", device="cpu"))


def test_a_folder_without_notes_has_none(tmp_path: Path) -> None:
    assert read_notes(tmp_path) is None


def test_what_is_outside_a_calibration_stays_with_its_artifact() -> None:
    """A second call asks only for answers that are missing, so it adds to what is known."""
    empty, card = RunNotes(model="testbed"), {"calibration": 1}
    first = empty.after([], {"probe": card, "sasa": card}, {"probe": ["long"], "sasa": ["long"]}, 1)
    again = first.after([], {"probe": card, "sasa": {}}, {"probe": ["large", "long"]}, 2)
    assert again.outside == {"probe": ["long", "large"]}
    assert again.seconds == 3
    assert first.outside == {"probe": ["long"], "sasa": ["long"]}
