"""A server that is stopped while vLLM starts its engine."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; see make test-vllm")

import psutil

from tests.vllm.servers import PATIENCE, start
from tests.vllm_plugin.test_stopping import heed_ctrl_c

pytestmark = pytest.mark.slow

SECONDS = 20
"""For the end, on a machine that does much else."""


def _engine(number: int) -> bool:
    """Whether a process has started an engine, which may be a fork of it."""
    for child in psutil.Process(number).children():
        words = " ".join(child.cmdline())
        if "EngineCore" in words or "spawn_main" in words or "safesight serve" in words:
            return True
    return False


@pytest.mark.parametrize(("number", "whole"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_it_ends_at_once_and_says_one_sentence(number: signal.Signals, whole: bool) -> None:
    """A terminal sends Ctrl-C to the whole group, a supervisor SIGTERM to one process."""
    process, _ = start(
        "--defense",
        "none",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )
    try:
        end = time.monotonic() + PATIENCE
        while not _engine(process.pid):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
        time.sleep(1)
        started = psutil.Process(process.pid).children(recursive=True)
        (os.killpg if whole else os.kill)(process.pid, number)
        said, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 128 + number
        assert "Traceback" not in said
        assert said.splitlines()[-1] == "safesight: Stopped."
        _, alive = psutil.wait_procs(started, timeout=SECONDS)
        assert not alive
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
