"""The decision log: what is in a line, who may read it, and what a failure to write does."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from safesight.errors import StorageError
from safesight.hosting.decision_log import Decision, DecisionLog


def decision(**changes: Any) -> Decision:
    fields: dict[str, Any] = {
        "request": "chatcmpl-1",
        "choice": 0,
        "model": "testbed",
        "defense": "safety_prompt+sasa",
        "detector": "sasa",
        "score": 0.75,
        "threshold": 0.5,
        "refused": True,
        "error": None,
        "artifact": "sha256:abc",
        "pictures": 2,
        "prompt": "what the user wrote",
    }
    return Decision(**(fields | changes))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "decisions.jsonl"
    with DecisionLog(path) as log:
        log.write([decision(), decision(refused=False, score=0.1)])
        (line,) = lines(path)  # on disk before the log is closed
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "request": "chatcmpl-1",
        "choice": 0,
        "model": "testbed",
        "defense": "safety_prompt+sasa",
        "detector": "sasa",
        "score": 0.75,
        "threshold": 0.5,
        "refused": True,
        "error": None,
        "artifact": "sha256:abc",
        "pictures": 2,
    }


def test_a_detector_that_failed_has_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with DecisionLog(path) as log:
        log.write([decision(refused=False, score=float("nan"), threshold=None, error="no layer")])
    assert [(line["score"], line["error"]) for line in lines(path)] == [(None, "no layer")]


def test_every_decision_and_prompts_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with DecisionLog(path, every=True, with_prompts=True) as log:
        log.write([decision(), decision(refused=False, prompt='two\nlines "quoted" \u2028 \ud800')])
    assert [line["refused"] for line in lines(path)] == [True, False]
    assert lines(path)[1]["prompt"] == 'two\nlines "quoted" \u2028 \ud800'


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with DecisionLog(tmp_path / "log"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_it_is_appended_to_and_a_torn_line_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with DecisionLog(path) as log:
        log.write([decision()])
    with path.open("a") as file:
        file.write('{"time": "20')
    with DecisionLog(path) as log:
        log.write([decision(request="after")])
        log.write([decision(request="later")])
    written = path.read_text().splitlines()
    assert written[1] == '{"time": "20'
    assert [json.loads(line)["request"] for line in written[2:]] == ["after", "later"]


@pytest.mark.parametrize("how", ["moved", "deleted", "copytruncate"])
def test_it_survives_rotation(how: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with DecisionLog(path) as log:
        log.write([decision(request="old")])
        if how == "moved":
            path.rename(tmp_path / "log.1")
        elif how == "deleted":
            path.unlink()
        else:
            os.truncate(path, 0)
        log.write([decision(request="new"), decision(request="newer")])
        assert [line["request"] for line in lines(path)] == ["new", "newer"]
        assert path.read_bytes()[:1] == b"{"
    if how == "moved":
        assert [line["request"] for line in lines(tmp_path / "log.1")] == ["old"]


def test_a_folder_that_is_gone_stops_nothing_and_is_not_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    failures: list[int] = []
    log = DecisionLog(folder / "log", on_failure=lambda: failures.append(1))
    folder.rename(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING, logger="safesight"):
        log.write([decision(), decision()])
        log.write([decision()])
        assert len(failures) == 3
        assert [record.getMessage() for record in caplog.records if "cannot" in record.msg] == [
            f"The decision log {folder / 'log'} cannot be written (No such file or directory). "
            "Decisions stand, and their lines are lost until it can."
        ]
        folder.mkdir()
        log.write([decision(request="again"), decision(request="and again")])
    lost, *others = lines(folder / "log")
    assert lost["lost"] == 3
    assert [line["request"] for line in others] == ["again", "and again"]
    log.close()
    log.write([decision()])
    assert len(failures) == 4


def test_a_full_disk_stops_nothing_and_tears_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    failures: list[int] = []
    room = [10_000]
    write = os.write

    def full(file: int, content: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = write(file, content[: room[0]])
        room[0] -= written
        return written

    with DecisionLog(path, on_failure=lambda: failures.append(1)) as log:
        monkeypatch.setattr(os, "write", full)
        log.write([decision(request="first")])
        room[0] = 20
        log.write([decision(request="torn"), decision(request="lost")])
        room[0] = 10_000
        log.write([decision(request="last")])
        monkeypatch.undo()
    assert len(failures) == 2
    first, torn, lost, last = path.read_text().splitlines()
    assert json.loads(first)["request"] == "first"
    assert len(torn) == 20
    assert json.loads(lost)["lost"] == 2
    assert json.loads(last)["request"] == "last"


def test_lines_of_many_threads_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs = [DecisionLog(path), DecisionLog(path)]  # two processes have a file each as well

    def work(number: int) -> None:
        for step in range(50):
            logs[number % 2].write([decision(request=f"{number}-{step}")])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({line["request"] for line in lines(path)}) == len(lines(path)) == 400


def test_a_place_that_cannot_be_a_log_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "file" / "log", tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(StorageError):
            DecisionLog(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "pipe"]
