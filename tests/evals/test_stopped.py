"""A run that is stopped by a signal, or that Inspect ends early: it never looks finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log_sample_summaries

from safesight.compare.folder import NOTES
from safesight.errors import StorageError
from safesight.evals import read_answers, run, run_eval, skipped
from safesight.hosting import hosts
from tests.evals.fake import FakeVLM, stamp_artifact

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0


@pytest.mark.parametrize(("after", "kept"), [(1, 0), (4, 12)])
def test_a_stopped_run_leaves_nothing_running_and_is_resumed(
    fakes, tmp_path, monkeypatch, after: int, kept: int
) -> None:
    """Ctrl-C while a batch is generated: in the middle of the first task, and of the second."""
    logs = tmp_path / "logs"
    arguments = {
        "log_dir": logs,
        "limit": 12,
        "artifacts": {"stamp": stamp_artifact(tmp_path / "stamp", "one")},
        "batch_size": 4,
        "progress": False,
    }
    generate = FakeVLM._generate

    def interrupted(self, input_ids, **kwargs):
        if len(self.batches) == after:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)  # meanwhile the main thread writes its logs, and would go on
        return generate(self, input_ids, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(FakeVLM, "_generate", interrupted)
        with pytest.raises(KeyboardInterrupt, match="same command again to resume"):
            run_eval("fake", ["stamp"], ["words", "pictures"], **arguments)
    (vlm,) = fakes.values()
    batches = len(vlm.batches)
    assert batches == after + 1  # the one that ran has ended
    assert vlm.stamp == ""  # and its defense is off the model
    assert hosts.host("fake")._attached is None

    run_eval("fake", ["stamp"], ["words", "pictures"], **arguments)
    asked = [text for batch in vlm.batches for text in batch]
    assert len(asked) <= 24 + 4 * batches - kept  # a finished task is not asked again
    answers = read_answers(logs)
    assert len(answers) == 24
    assert all(answer.answer.startswith("[one]") for answer in answers)
    assert skipped(logs) == []


def test_fewer_logs_than_cells_are_no_finished_run(fakes, tmp_path, monkeypatch) -> None:
    """Inspect stopped between two tasks returns the logs that it has, and success."""
    whole = run.eval_set

    def early(tasks, **options):
        return whole(tasks[:1], **options)

    with monkeypatch.context() as patch:
        patch.setattr(run, "eval_set", early)
        with pytest.raises(KeyboardInterrupt, match="Finished answers are in"):
            run_eval("fake", ["none"], ["words", "pictures"], log_dir=tmp_path, progress=False)
    run_eval("fake", ["none"], ["words", "pictures"], log_dir=tmp_path, progress=False)
    assert len(read_answers(tmp_path)) == 36


@pytest.mark.parametrize(
    ("number", "times", "code"),
    [(signal.SIGINT, 3, 130), (signal.SIGTERM, 1, 143)],
)
def test_the_program_ends_with_the_code_of_the_signal(
    tmp_path: Path, number: signal.Signals, times: int, code: int
) -> None:
    logs = tmp_path / "logs"
    command = [sys.executable, "-m", "tests.evals.killed_run", str(logs), str(tmp_path / "asked")]
    process = subprocess.Popen([*command, "--cli"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _logged(logs):
            assert process.poll() is None, "the run ended before it could be stopped"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.1)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "Traceback" not in said
    assert "safesight: Stopped." in said
    assert not (logs / NOTES).exists()
    with pytest.raises(StorageError, match="not finished"):
        read_answers(logs)


def _logged(logs: Path) -> bool:
    infos = list_eval_logs(str(logs)) if logs.is_dir() else []
    try:
        return any(read_eval_log_sample_summaries(info) for info in infos)
    except ValueError:  # the file has just been made and is empty
        return False
