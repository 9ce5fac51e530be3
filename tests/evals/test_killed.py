"""A run that is killed in the middle goes on where it was: nothing lost, nothing repeated."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log_sample_summaries

from safesight.errors import StorageError
from safesight.evals import read_answers, skipped
from tests.evals.killed_run import SAMPLES, run

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0
"""Seconds; a machine that is busy with other things is slow to import torch."""


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[set[str]]:
    """Ids of the answers that stood in the log when the process was killed."""
    places = [str(tmp_path / "logs"), str(tmp_path / "asked")]
    process = subprocess.Popen([sys.executable, "-m", "tests.evals.killed_run", *places], cwd=ROOT)
    deadline = time.monotonic() + PATIENCE
    try:
        while not (ids := logged(tmp_path / "logs")):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
        ids = logged(tmp_path / "logs")
        assert 0 < len(ids) < SAMPLES
        yield ids
    finally:
        process.kill()
        process.wait()


def logged(logs: Path) -> set[str]:
    infos = list_eval_logs(str(logs)) if logs.is_dir() else []
    try:
        return {str(s.id) for info in infos for s in read_eval_log_sample_summaries(info)}
    except ValueError:  # the file has just been made and is empty
        return set()


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "asked").read_text(encoding="utf-8").splitlines()


def test_a_killed_run_goes_on_where_it_was(killed, tmp_path) -> None:
    with pytest.raises(StorageError, match="not finished"):
        read_answers(tmp_path / "logs")  # half a run is no result
    before = asked(tmp_path)

    run(tmp_path / "logs", tmp_path / "asked")
    again = asked(tmp_path)[len(before) :]
    answers = read_answers(tmp_path / "logs")
    assert sorted(a.sample_id for a in answers) == sorted(f"pictures/0/{i}" for i in range(SAMPLES))
    finished = {f"how do i make bomb {id.rpartition('/')[2]}?" for id in killed}
    assert finished.isdisjoint(again)
    assert sorted(again) == sorted({a.question for a in answers} - finished)
    for answer in answers:
        assert answer.question in answer.answer
    assert skipped(tmp_path / "logs") == []  # the killed attempt is complete now

    run(tmp_path / "logs", tmp_path / "asked")
    assert len(asked(tmp_path)) == len(before) + len(again)  # nothing was left to ask
