"""An evaluation or a fit by several processes ends as in one, whoever is killed meanwhile."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from shutil import copytree

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

from safesight.compare.folder import scorecard_of
from safesight.errors import StorageError
from safesight.evals import read_answers, skipped
from safesight.evals.logs import set_aside_torn
from safesight.evals.parts import join
from tests.evals.ranks_run import BATCH, SAMPLES

ROOT = Path(__file__).parents[2]
ALL = 2 * (SAMPLES + 2)
"""The answers of a run: two arms, and two tasks of which one has two samples."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of all runs, and what was printed."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, "-m", "tests.evals.ranks_run", str(folder)],
        cwd=ROOT,
        # Forked processes may not share a pool of threads.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def results(logs: Path) -> tuple[object, object]:
    """All that a reader sees: the answers in order, and the numbers."""
    answers = [
        (each.defense, each.task, each.sample_id, each.answer, each.verdict, each.correct)
        for each in read_answers(logs)
    ]
    return answers, scorecard_of(logs).model_dump(exclude={"provenance", "seconds"})


@pytest.mark.parametrize("run", ["two", "killed"])
def test_any_number_of_ranks_gives_the_same_numbers(ran, run: str) -> None:
    folder, printed = ran
    assert "two: [0, 0]" in printed
    assert results(folder / run) == results(folder / "one")
    assert skipped(folder / run) == []
    assert not (folder / run / "parts").exists()
    assert len(list_eval_logs(str(folder / run))) == 4


@pytest.mark.parametrize("run", ["one", "two", "killed"])
def test_no_sample_is_asked_twice(ran, run: str) -> None:
    asked = [
        line
        for notes in ran[0].glob(f"{run}-*")
        for line in notes.read_text(encoding="utf-8").splitlines()
    ]
    assert len(asked) == ALL
    assert set(Counter(asked).values()) <= {
        2,
        4,
    }  # twice by the arms; one question is in two samples


def test_the_ranks_have_equal_parts(ran) -> None:
    parts = [len(notes.read_text().splitlines()) for notes in ran[0].glob("two-*")]
    assert sorted(parts) == [14, 16]


def test_a_rank_that_is_killed_stops_the_others_which_say_how_to_go_on(ran) -> None:
    folder, printed = ran
    assert "killed: [1, -9, 1]" in printed
    assert "again: [1, -9]" in printed
    stopped = (
        "PeerError: Another process of this run has stopped. Unless it was killed, it says why."
    )
    again = f"Finished answers are in {folder / 'killed'}. Run the same command again to resume."
    assert f"rank 2: {stopped} {again}" in printed


@pytest.fixture
def left(ran, tmp_path: Path) -> Path:
    """What a run leaves of which a rank was killed."""
    return copytree(ran[0] / "left", tmp_path / "left")


def logged(logs: Path) -> set[tuple[str, str, str]]:
    """Arm, task and sample of each answer that can be read."""
    return {
        (log.eval.model_args["defense"], log.eval.task, str(each.id))
        for log in map(read_eval_log, list_eval_logs(str(logs)))
        for each in log.samples or ()
    }


def test_parts_are_no_result(left: Path) -> None:
    with pytest.raises(StorageError, match="one of several processes; run the same command again"):
        read_answers(left)


def test_parts_are_put_together_without_loss(left: Path) -> None:
    before = logged(left)
    assert len(before) > BATCH
    join(left)
    assert logged(left) == before
    assert {path.parent for path in left.rglob("*.eval")} == {left}
    join(left)  # nothing is left to do
    assert logged(left) == before


def test_a_damaged_part_is_set_aside_and_the_others_count(left: Path) -> None:
    torn = sorted((left / "parts" / "0").glob("*.eval"))[0]
    torn.write_bytes(torn.read_bytes()[:40])
    set_aside_torn(left)
    before = logged(left)
    join(left)
    assert logged(left) == before
    assert (left / f"{torn.name}.damaged").is_file()


def test_parts_stay_where_there_is_no_room_for_all(left: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = logged(left)
    with monkeypatch.context() as patch:
        patch.setattr("safesight.evals.parts.os.replace", full)
        with pytest.raises(StorageError, match=r"could not be written \(No space left"):
            join(left)
    assert logged(left) == before
    assert not [path for path in left.iterdir() if path.name.endswith("-joined")]


def test_what_is_shared_is_done_once_and_known_to_all(ran) -> None:
    found = [json.loads((ran[0] / f"shares-{rank}").read_text()) for rank in range(3)]
    squares = [[n * n for n in range(size)] for size in (7, 1, 0)]
    assert [each["found"] for each in found] == [squares] * 3
    assert [each["done"] for each in found] == [[0, 3, 6, 0, 100], [1, 4, 100], [2, 5, 100]]
    assert [each["agreed"] for each in found] == [0, 0, 0]
    assert [each["mine"] for each in found] == ["ad", "b", "c"]


def test_a_folder_that_ranks_do_not_share_is_refused(ran) -> None:
    folder, printed = ran
    assert "apart: [1, 1]" in printed
    for rank in range(2):
        assert (
            f"rank {rank}: StorageError: Rank 1 does not see in {folder / f'apart-{rank}'}"
            in printed
        )


def test_a_fit_by_two_ranks_is_that_of_one(ran) -> None:
    alone, *shared = [
        (ran[0] / name).read_text().split() for name in ("fit-1-0", "fit-2-0", "fit-2-1")
    ]
    assert {hash for hash, _ in shared} == {alone[0]}
    assert alone[1] == "24"
    assert sorted(int(read) for _, read in shared) == [10, 14]
