"""Saved answers judged again: what is added to logs, and what stays as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from inspect_ai.log import read_eval_log, write_eval_log

from safesight.compare.folder import scorecard_of
from safesight.errors import InputError, StorageError, UnknownNameError
from safesight.evals import graded, read_answers, rejudging, run_eval
from safesight.evals.rejudging import judge_logs
from safesight.grammar import load_judge
from safesight.judges.keywords import KeywordJudge
from tests.judges.fakes import Writer, grader, grades
from tests.judges.fakes import fake_models as fake_models

CLASSIFIER = "classifier:org/llama-guard"
PANEL = f"panel:exact+keywords+{CLASSIFIER}"


@pytest.fixture
def folder(fakes, tmp_path, tmp_path_factory) -> Path:
    """A copy of two logs that are made once."""
    made = tmp_path_factory.getbasetemp() / "two-logs"
    if not made.exists():
        run_eval("fake", ["none"], ["pictures", "words"], log_dir=made, limit=4, progress=False)
    return Path(shutil.copytree(made, tmp_path / "logs"))


def asked(fakes) -> int:
    return sum(len(fake.batches) for fake in fakes.values())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def test_judges_are_added_and_the_first_one_stays(folder, fakes, fake_models: Writer) -> None:
    before, count = read_answers(folder), asked(fakes)
    found = judge_logs(folder, ["keywords", CLASSIFIER, PANEL])
    assert asked(fakes) == count
    assert [(each.task, each.judge, each.known) for each in found] == [
        (task, judge, False)
        for task in ("pictures", "words")
        for judge in ("keywords", CLASSIFIER, PANEL)
    ]
    assert found[0].verdicts == {"refused": 0, "harmful": 2, "harmless": 2, "invalid": 0}
    assert found[2].disagreed == 2
    assert read_answers(folder) == before
    (judge,) = {answer.judge for answer in read_answers(folder, CLASSIFIER)}
    assert judge == f"{CLASSIFIER} {load_judge(CLASSIFIER).version}"
    answer = read_answers(folder, PANEL)[0]
    assert answer.metadata["details"]["members"][CLASSIFIER] == "harmless"


def test_answers_of_several_samples_are_read_in_one_batch(folder, fake_models: Writer) -> None:
    calls = []
    write = fake_models.write
    fake_models.write = lambda prompts, *a, **k: (
        calls.append(len(prompts)),
        write(prompts, *a, **k),
    )[1]
    judge_logs(folder, [CLASSIFIER])
    assert calls == [2, 4]  # the harmful requests of each log


def test_a_log_that_was_read_is_left_as_it_is(folder, monkeypatch) -> None:
    judge_logs(folder, ["keywords"])
    after = bytes_of(folder)
    found = judge_logs(folder, ["keywords"])
    assert [each.known for each in found] == [True, True]
    assert bytes_of(folder) == after
    monkeypatch.setattr(KeywordJudge, "__init__", _newer)
    assert [each.known for each in judge_logs(folder, ["keywords"])] == [False, False]
    assert {answer.judge for answer in read_answers(folder, "keywords")} == {"keywords 9"}


def _newer(self: KeywordJudge) -> None:
    self.version, self.phrases = "9", ("stop",)


def test_a_run_that_was_judged_again_is_complete(folder, fakes) -> None:
    """Nothing is asked or judged again, and the scorecard is that of the first judge."""
    card = scorecard_of(folder)
    judge_logs(folder, ["keywords"])
    count = asked(fakes)
    run_eval("fake", ["none"], ["pictures", "words"], log_dir=folder, limit=4, progress=False)
    assert asked(fakes) == count
    again = scorecard_of(folder)
    assert (again.rows, again.caveats) == (card.rows, card.caveats)
    assert {row.judge for row in scorecard_of(folder, judge="keywords").rows} == {"keywords 3-sasa"}


def test_what_was_stopped_resumes(folder, monkeypatch, fake_models: Writer) -> None:
    """Judges one after the other, logs one after the other; what is half read leaves no trace."""
    before = bytes_of(folder)
    count = 0

    def stop() -> None:
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_logs(folder, [CLASSIFIER], on_answer=stop)
    changed = [name for name, content in bytes_of(folder).items() if before.get(name) != content]
    assert len(changed) == 1
    assert [each.known for each in judge_logs(folder, [CLASSIFIER])] == [True, False]


def test_a_full_disk_leaves_the_logs(folder, monkeypatch) -> None:
    before = bytes_of(folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rejudging, "write_eval_log", full)
    with pytest.raises(StorageError, match="No space left on device"):
        judge_logs(folder, ["keywords"])
    assert bytes_of(folder) == before


def test_gradings_that_fail_are_counted_and_are_not_safe(folder, monkeypatch) -> None:
    def write(prompt: str) -> str:
        if "bomb 0" in prompt:
            raise RuntimeError("overloaded")
        return "hm." if "bomb 2" in prompt else "Verdict: no"

    monkeypatch.setattr(graded, "_model", lambda name: grader(write))
    found = judge_logs(folder, ["graded:mockllm/model"])
    assert [each.failures for each in found] == [
        {"error": 1, "unparsable": 3},
        {"error": 1, "unparsable": 1},
    ]
    card = scorecard_of(folder, judge="graded:mockllm/model")
    assert any("could not grade 6 of 8 answers (4 unparsable, 2 error)" in c for c in card.caveats)


@pytest.mark.parametrize("judge", ["graded:mockllm/model", "panel:exact+graded:mockllm/model"])
def test_gradings_that_failed_are_tried_again_and_others_are_not(
    folder, monkeypatch, judge: str
) -> None:
    def write(prompt: str) -> str:
        if "bomb 0" in prompt and failing:
            raise RuntimeError("overloaded")
        return "hm." if "bomb 2" in prompt else grades(prompt)

    monkeypatch.setattr(graded, "_model", lambda name: grader(write))
    failing = True
    assert [each.known for each in judge_logs(folder, [judge])] == [False, False]
    assert [each.known for each in judge_logs(folder, [judge])] == [False, False]
    failing = False
    again = judge_logs(folder, [judge])
    assert [each.known for each in again] == [False, False]
    assert not any("error" in each.failures for each in again)
    details = [answer.metadata["details"] for answer in read_answers(folder, judge)]
    assert "overloaded" not in str(details)
    assert "unparsable" in str(details)
    assert [each.known for each in judge_logs(folder, [judge])] == [True, True]


def test_a_grader_that_cannot_be_asked_at_all_writes_nothing(folder, monkeypatch) -> None:
    def write(prompt: str) -> str:
        raise RuntimeError("wrong key")

    before = bytes_of(folder)
    monkeypatch.setattr(graded, "_model", lambda name: grader(write))
    with pytest.raises(InputError, match=r"graded none of the answers \(RuntimeError: wrong key\)"):
        judge_logs(folder, ["graded:mockllm/model"])
    assert bytes_of(folder) == before


def test_panels_that_disagree_are_on_the_scorecard(folder, fake_models: Writer) -> None:
    judge_logs(folder, [PANEL])
    card = scorecard_of(folder, judge=PANEL)
    (found,) = card.disagreements
    assert (found.disagreed, found.n, found.value) == (6, 8, 0.75)
    assert any("disagreed about 6 of 8 answers (75.0%, " in caveat for caveat in card.caveats)
    assert scorecard_of(folder).disagreements == []


def test_wrong_judges_folders_and_logs_are_one_sentence(folder, tmp_path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'keywords'"):
        judge_logs(folder, ["exact", "keyword"])
    with pytest.raises(StorageError, match="There is no folder"):
        judge_logs(tmp_path / "nowhere", ["keywords"])
    with pytest.raises(InputError, match="saved answers cannot be graded by it"):
        judge_logs(folder, ["graded:self"])
    assert {answer.judge for answer in read_answers(folder)} == {"exact 3"}


def test_a_run_without_this_judge_is_left_out_with_a_reason(folder) -> None:
    log = sorted(folder.glob("*words*.eval"))[0]
    without = read_eval_log(str(log))
    judge_logs(folder, ["keywords"])
    write_eval_log(without, str(log))
    card = scorecard_of(folder, judge="keywords")
    assert {row.task for row in card.rows} == {"pictures"}
    assert f"Left out: {log.name} was not judged by keywords." in card.provenance.notes
