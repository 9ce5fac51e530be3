"""A server that is stopped while it starts ends at once, with all that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTING = """
import multiprocessing, os, signal, sys, time
from safesight.vllm.stopping import Stopped, stopped_at_once

def engine(place):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as vLLM's, which puts it off
    inner = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    inner.start()
    with open(place, "w") as file:
        file.write(f"{os.getpid()} {inner.pid}")
    time.sleep(60)

def interrupt(*_):
    raise KeyboardInterrupt("terminated")

if __name__ == "__main__":
    try:
        with stopped_at_once():
            signal.signal(signal.SIGTERM, interrupt)
            multiprocessing.get_context("spawn").Process(target=engine, args=sys.argv[1:]).start()
            time.sleep(60)
    except Stopped as stop:
        assert not str(stop)
        os._exit(128 + stop.number)  # as our program does
"""


def heed_ctrl_c() -> None:
    """Tests may run in the background of a script, where it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _alive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # an orphan that nobody has waited for


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(("number", "whole"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_nothing_is_left_and_nothing_is_printed(
    tmp_path: Path, number: signal.Signals, whole: bool
) -> None:
    """A terminal sends Ctrl-C to the whole group, a supervisor SIGTERM to one process."""
    script, place = tmp_path / "starting.py", tmp_path / "numbers"
    script.write_text(STARTING)
    process = subprocess.Popen(
        [sys.executable, str(script), str(place)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )
    try:
        end = time.monotonic() + 100
        while not (place.exists() and len(place.read_text().split()) == 2):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        numbers = [int(word) for word in place.read_text().split()]
        assert all(map(_alive, numbers))
        (os.killpg if whole else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 128 + number
        assert said == ""
        assert not any(map(_alive, numbers))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
