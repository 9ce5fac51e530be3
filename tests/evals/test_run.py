"""Runs from Python: what is logged, what is resumed, what is refused, what is printed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

from safesight.errors import InputError, StorageError, UnknownNameError
from safesight.evals import read_answers, run, run_eval, skipped
from safesight.evals.progress import Progress
from safesight.files import UNWRITABLE
from safesight.hosting import hosts
from safesight.types import Sample
from tests.evals import fake
from tests.evals.fake import stamp_artifact


def asked(fakes) -> int:
    return sum(len(batch) for vlm in fakes.values() for batch in vlm.batches)


def test_arms_times_tasks_one_log_each_in_order(fakes, tmp_path) -> None:
    artifact = stamp_artifact(tmp_path / "artifact", "one")
    logs = run_eval(
        "fake",
        ["none", "stamp", "none"],
        ["pictures", "words"],
        log_dir=tmp_path / "logs",
        limit=6,
        artifacts={"stamp": artifact},
        batch_size=4,
        progress=False,
    )
    assert all(log.is_file() for log in logs)
    assert len(set(logs)) == 4
    answers = read_answers(tmp_path / "logs")
    cells = {(a.defense, a.task) for a in answers}
    assert cells == {(d, t) for d in ("none", "stamp") for t in ("pictures", "words")}
    assert len(answers) == len({(a.defense, a.task, a.sample_id) for a in answers}) == 24
    for answer in answers:
        assert answer.answer.startswith("[one]") == (answer.defense == "stamp")
        assert answer.metadata["log"].endswith(tuple(log.name for log in logs))
    assert asked(fakes) == 24
    assert fake.RENDERED.count(3) == 3  # once for the hash of the task and once for each arm


def test_two_fitted_defenses_of_an_arm_have_an_artifact_each(fakes, tmp_path) -> None:
    artifacts = {
        "stamp": stamp_artifact(tmp_path / "stamp", "one"),
        "seal": stamp_artifact(tmp_path / "seal", "two", defense="seal"),
    }

    def run_once() -> None:
        run_eval(
            "fake",
            ["stamp", "seal+stamp"],
            ["words"],
            log_dir=tmp_path / "logs",
            limit=2,
            artifacts=artifacts,
            progress=False,
        )

    run_once()
    run_once()
    assert asked(fakes) == 4
    for answer in read_answers(tmp_path / "logs"):
        words = "[two] [one] " if answer.defense == "seal+stamp" else "[one] "
        assert answer.answer.startswith(f"{words}to do it")
    logs = map(read_eval_log, list_eval_logs(str(tmp_path / "logs")))
    recorded = {log.eval.model_args["defense"]: log.eval.model_args["artifact"] for log in logs}
    # An artifact alone is recorded as it always was, so that old runs are resumed.
    assert recorded == {
        "stamp": artifacts["stamp"],
        "seal+stamp": [artifacts["seal"], artifacts["stamp"]],
    }


def test_a_finished_run_is_not_asked_again(fakes, tmp_path) -> None:
    arguments = {"log_dir": tmp_path, "limit": 5, "progress": False}
    first = run_eval("fake", ["none"], ["words"], **arguments)
    second = run_eval("fake", ["none"], ["words"], batch_size=2, **arguments)
    assert first == second
    assert asked(fakes) == 5
    run_eval("fake", ["none"], ["words", "pictures"], **arguments)  # one more task
    assert asked(fakes) == 10


@pytest.mark.parametrize("change", ["artifact", "dtype", "weights", "settings"])
def test_a_changed_arm_never_meets_a_stale_answer(fakes, tmp_path, change: str) -> None:
    """The same names in the same folder, but something that changes answers is different."""
    place = tmp_path / "artifact"

    def run_once(**model_args: object) -> list[str]:
        run_eval(
            "fake",
            ["stamp"],
            ["words"],
            log_dir=tmp_path / "logs",
            limit=3,
            artifacts={"stamp": place},
            progress=False,
            model_args=model_args,
        )
        return [a.answer for a in read_answers(tmp_path / "logs")]

    stamp_artifact(place, "one")
    assert run_once()[0].startswith("[one]")
    assert asked(fakes) == 3
    if change == "artifact":
        stamp_artifact(place, "two")
        assert all(answer.startswith("[two]") for answer in run_once())
    elif change == "dtype":
        stamp_artifact(place, "one", identity="fake bfloat16")
        run_once(dtype="bfloat16")
    elif change == "weights":
        fakes["fake"].identity = "other weights in the same place"
        stamp_artifact(place, "one", identity=fakes["fake"].identity)
        run_once()
    else:
        run_once(loud=True)
    assert asked(fakes) == 6
    assert len(read_answers(tmp_path / "logs")) == 3  # the newest run alone
    assert any("superseded" in reason for reason in skipped(tmp_path / "logs"))


@pytest.mark.parametrize("change", ["tokenizer", "end token", "length", "pictures"])
def test_what_stands_around_the_weights_is_part_of_the_identity(
    fakes, tmp_path, monkeypatch, change: str
) -> None:
    arguments = {"log_dir": tmp_path, "limit": 3, "progress": False}
    run_eval("fake", ["none"], ["pictures"], **arguments)
    vlm = fakes["fake"]
    if change == "tokenizer":
        vlm.tokenizer = fake.FakeTokenizer("bomb")
    elif change == "end token":
        vlm.model.generation_config.eos_token_id = [fake.EOS, 4]
    elif change == "length":
        vlm.model.generation_config.max_new_tokens = 4
    else:
        drawn = fake.picture
        monkeypatch.setattr(fake, "picture", lambda grey: drawn(grey + 1))
    run_eval("fake", ["none"], ["pictures"], **arguments)
    assert asked(fakes) == 6


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_a_log_that_was_torn_by_a_crash_is_set_aside(fakes, tmp_path, content: bytes) -> None:
    (tmp_path / "sub folder").mkdir()
    torn = tmp_path / "sub folder" / "2026-01-01T00-00-00-00-00_words_abc.eval"
    torn.write_bytes(content)
    run_eval("fake", ["none"], ["words"], log_dir=tmp_path, limit=3, progress=False)
    assert len(read_answers(tmp_path)) == 3
    assert not torn.exists()
    assert torn.with_suffix(".eval.damaged").read_bytes() == content


def test_a_bad_sample_is_a_user_error_and_what_was_done_is_kept(
    fakes, tmp_path, monkeypatch
) -> None:
    def broken(n: int | None = None, *, seed: int = 0):
        samples = fake.pictures(n, seed=seed)
        object.__setattr__(samples[9], "image", torn_while_it_runs)
        return samples

    drawn = 0

    def torn_while_it_runs():
        nonlocal drawn
        drawn += 1
        if drawn > 1:
            raise OSError("torn")
        return fake.picture(9)

    whole = fake.words
    with monkeypatch.context() as patch:
        patch.setattr(fake, "words", broken)
        with pytest.raises(InputError, match="sample 'pictures/0/9' cannot be read"):
            run_eval("fake", ["none"], ["words"], log_dir=tmp_path, batch_size=2, progress=False)
    assert fake.words is whole
    with pytest.raises(StorageError, match="not finished"):
        read_answers(tmp_path)


def test_a_picture_that_cannot_be_read_is_said_before_anything_is_asked(
    fakes, tmp_path, monkeypatch
) -> None:
    def torn(grey: int) -> None:
        raise OSError("torn")

    monkeypatch.setattr(fake, "picture", torn)
    with pytest.raises(InputError, match=r"sample 'pictures/0/0' cannot be read \(torn\)"):
        run_eval("fake", ["none"], ["words", "pictures"], log_dir=tmp_path, progress=False)
    assert asked(fakes) == 0


def _words(*questions: str):
    return lambda n=None, *, seed=0: [
        Sample(f"words/{i}", question, "harmful", "bomb") for i, question in enumerate(questions)
    ]


def test_what_the_model_refuses_to_read_is_said_as_it_is(fakes, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(fake, "words", _words("how?", "it's unreadable"))
    with pytest.raises(InputError, match=r"^This cannot be asked\. Ask something else\.$"):
        run_eval("fake", ["none"], ["words"], log_dir=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("questions", "told"),
    [
        (("how?", "<place> how?"), "The text of sample 'words/1' of words contains"),
        (("<place>", "how?", "<place>"), "The texts of 2 samples of words contain"),
    ],
)
def test_an_image_placeholder_is_found_before_anything_is_asked(
    fakes, tmp_path, monkeypatch, questions, told
) -> None:
    monkeypatch.setattr(fake, "words", _words(*questions))
    with pytest.raises(InputError, match=f"^{told} the image placeholder '<place>' of fake"):
        run_eval("fake", ["none"], ["pictures", "words"], log_dir=tmp_path, progress=False)
    assert asked(fakes) == 0


def test_a_bug_keeps_its_traceback(fakes, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(fake.FakeVLM, "_read", staticmethod(lambda messages: "crash"))
    with pytest.raises(RuntimeError, match=r"(?s)a bug.*_generate"):
        run_eval("fake", ["none"], ["words"], log_dir=tmp_path, limit=2, progress=False)


def test_unknown_names_are_found_before_anything_runs(fakes, tmp_path) -> None:
    for arguments in (
        {"tasks": ["wrds"]},
        {"defenses": ["stmp"]},
        {"tasks": ["words"], "judge": "exacct"},
    ):
        with pytest.raises(UnknownNameError):
            run_eval("fake", log_dir=tmp_path / "logs", progress=False, **arguments)
    assert list((tmp_path / "logs").iterdir()) == []


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/proc").is_dir(), reason="needs a closed folder"
)
def test_a_folder_that_cannot_be_written_is_said_first(fakes, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "logs", Path("/proc/safesight")):
        with pytest.raises(StorageError, match="Choose another --log-dir"):
            run_eval("fake", log_dir=place, progress=False)
    assert fakes == {}  # no model was loaded for it


def test_no_space_is_said_in_words(fakes, tmp_path, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        run_eval("fake", log_dir=tmp_path / "logs", progress=False)
    assert list((tmp_path / "logs").iterdir()) == []


@pytest.mark.parametrize("code", UNWRITABLE)
def test_a_place_that_closes_in_mid_run_is_said_in_words(
    fakes, tmp_path, monkeypatch, code: int
) -> None:
    from inspect_ai.log._recorders import eval as recorder

    def closed(temp_file: object, dest: str, fsync: bool) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(recorder, "_copy_temp_to_local", closed)
    with pytest.raises(StorageError, match=rf"cannot be written .*{os.strerror(code)}"):
        run_eval("fake", ["none"], ["words"], log_dir=tmp_path, progress=False)
    assert hosts.host("fake").batcher._resting


def test_a_folder_that_is_removed_in_mid_run_is_said_in_words(fakes, tmp_path, monkeypatch) -> None:
    from inspect_ai.log._recorders import eval as recorder

    def removed(temp_file: object, dest: str, fsync: bool) -> None:
        shutil.rmtree(tmp_path / "logs", ignore_errors=True)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), dest)

    monkeypatch.setattr(recorder, "_copy_temp_to_local", removed)
    with pytest.raises(StorageError, match=r"cannot be written .*No such file"):
        run_eval("fake", ["none"], ["words"], log_dir=tmp_path / "logs", progress=False)


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_logs_have_the_permissions_that_the_umask_leaves(fakes, tmp_path, mask: int) -> None:
    before = os.umask(mask)
    try:
        run_eval("fake", ["none"], ["words"], log_dir=tmp_path, limit=2, progress=False)
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}


def test_nothing_is_printed_on_standard_output(fakes, tmp_path, capfd) -> None:
    run_eval("fake", ["none"], ["words"], log_dir=tmp_path, limit=3)
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err
    run_eval("fake", ["none"], ["words"], log_dir=tmp_path, limit=2, progress=False)
    assert capfd.readouterr() == ("", "")


def test_progress_counts_what_an_earlier_run_left(fakes, tmp_path) -> None:
    run_eval("fake", ["none"], ["words"], log_dir=tmp_path, limit=5, progress=False)
    (info,) = list_eval_logs(str(tmp_path))
    version = read_eval_log(info).eval.task_version
    progress = Progress(tmp_path, {"limit": 5, "seed": 0, "judge": "exact"}, visible=False)
    progress.add_task("words", version, 5)
    progress.add_task("pictures", version, 7)
    assert (progress.done, progress.total) == (5, 12)
    other = Progress(tmp_path, {"limit": 5, "seed": 1, "judge": "exact"}, visible=False)
    other.add_task("words", version, 5)
    assert (other.done, other.total) == (0, 5)


def test_few_samples_are_alive_at_a_time_however_many_there_are(
    fakes, tmp_path, monkeypatch
) -> None:
    """Memory must not grow with the number of samples: pictures wait for their turn."""
    drawn_for_the_hash = 80  # one at a time, before the first is asked
    most = 0
    before = fake.FakeVLM.encode

    def encode(self, batch, **kwargs):
        nonlocal most
        answered = sum(len(b) for b in self.batches)
        most = max(most, len(fake.RENDERED) - drawn_for_the_hash - answered)
        return before(self, batch, **kwargs)

    monkeypatch.setattr(fake.FakeVLM, "encode", encode)
    run_eval(
        "fake", ["none"], ["pictures"], log_dir=tmp_path, limit=80, batch_size=4, progress=False
    )
    assert 4 <= most <= 16  # two batches, and a few that are being logged
    assert asked(fakes) == len(fake.RENDERED) - drawn_for_the_hash == 80, "none waits at the end"
