"""A server that an evaluation starts: it says why it does not start, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("inspect_ai")

from safesight.errors import ModelError
from safesight.hosting.ports import listening
from safesight.vllm import local_server
from safesight.vllm.causes import cause_in
from safesight.vllm.local_server import LocalServer
from tests.vllm_plugin import fake
from tests.vllm_plugin.test_stopping import _alive

WORDS = ("--engine", "vllm", "--model", "testbed", "--defense", "none")
POINTER = "Engine core initialization failed. See root cause above. Failed core proc(s): {}"
FAILING = f"""
def cmd(args):
    print("(EngineCore pid=7) ERROR 11-29 [core.py:1] ValueError: No room for a request.")
    raise RuntimeError({POINTER!r})
"""
LOGGING = """
import logging
from safesight.errors import ModelError
from safesight.vllm.causes import keep_causes

def cmd(args):
    keep_causes()
    pointer = RuntimeError("See root cause")
    for error in (ModelError("Its states are off. Is it the model?"), pointer):
        try:
            raise error
        except Exception:
            logging.getLogger("vllm").exception("EngineCore failed to start.")
    raise RuntimeError("Engine core initialization failed. See root cause above.")
"""
MISSING = """
class AsyncEngineArgs:
    @staticmethod
    def from_cli_args(parsed):
        raise OSError("We couldn't connect to the hub.\\nCheck it.")
"""
STARTING = """
import multiprocessing, os, signal, time

def engine(place):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(f"{place}.new", "w") as file:
        file.write(f"{os.getppid()} {os.getpid()}")
    os.rename(f"{place}.new", place)
    time.sleep(150)

def cmd(args):
    place = os.environ["PLACE"]
    multiprocessing.get_context("spawn").Process(target=engine, args=(place,)).start()
    time.sleep(150)
"""
EVALUATION = f"""
import sys
from pathlib import Path
from safesight.vllm.local_server import LocalServer

with LocalServer("vllm", {WORDS!r}, [], Path(sys.argv[1])).running():
    pass
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def path_with(folder: str) -> str:
    """For PYTHONPATH: what is imported here, and before it a folder."""
    return os.pathsep.join([folder, *filter(None, sys.path)])


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 100
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", path_with(fake.write(tmp_path / "fake", FAILING)))
    log = tmp_path / "vllm-none.log"
    server = LocalServer("vllm 9.9", WORDS, [], log)
    with (
        pytest.raises(
            ModelError, match=r"did not start: ValueError: No room .* See .*none\.log\.$"
        ),
        server.running(),
    ):
        pass
    said = log.read_text()
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("safesight: vLLM has ended (Engine core init")


def said_by_a_server(folder: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What `safesight serve` prints until it ends by an error."""
    monkeypatch.setenv("PYTHONPATH", path_with(folder))
    command = [sys.executable, "-m", "safesight", "serve", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 2
    return ended.stderr


def test_the_last_line_says_what_an_engine_has_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake.write(tmp_path / "fake", LOGGING)
    said = said_by_a_server(folder, monkeypatch, *WORDS, "--port", "8976")
    last = "safesight: vLLM has ended: Its states are off. Is it the model?"
    assert said.splitlines()[-1] == last
    assert cause_in(said) == "Its states are off. Is it the model?"
    assert "Starting vLLM for testbed with no defense" in said


def test_a_model_that_is_not_there_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake.write(tmp_path / "fake", FAILING)
    (tmp_path / "fake/vllm/engine/arg_utils.py").write_text(MISSING)
    words = [*WORDS, "--port", "8976"]
    words[words.index("testbed")] = "a/b"
    said = said_by_a_server(folder, monkeypatch, *words)
    assert said.startswith(
        "safesight: 'a/b' is neither a folder nor a model that can be downloaded (We couldn't "
        "connect to the hub). Check the name"
    )
    assert "Starting" not in said


def test_a_port_that_is_taken_is_said_before_vllm_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake.write(tmp_path / "fake", "raise AssertionError")
    with listening("127.0.0.1", 0) as door:
        port = str(door.getsockname()[1])
        said = said_by_a_server(folder, monkeypatch, *WORDS, "--port", port)
    assert said == f"safesight: Port {port} of 127.0.0.1 is taken. Choose another with --port.\n"


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("", "it said nothing"),
        ("loading\nKilled", "Killed"),
        (f"(A) torch.OutOfMemoryError: CUDA\nat exit\nRuntimeError: {POINTER}", "OutOfMemoryError"),
        (
            "safesight.errors.ModelError: another model\nRuntimeError: see the root cause",
            "ModelErr",
        ),
        ("ImportError: optional\nsafesight: --grpc goes past it.", "--grpc goes past it."),
        ("ValueError: small\nsafesight: vLLM has ended (See root cause above).", "ValueError: sm"),
        ("ValueError: a\nsafesight: vLLM has ended: ValueError: no room.", "ValueError: no room."),
    ],
)
def test_the_last_line_that_states_a_cause_is_quoted(said: str, cause: str) -> None:
    assert cause_in(said).startswith(cause)


@needs_proc
def test_a_server_ends_when_its_evaluation_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "numbers"
    path = path_with(fake.write(tmp_path / "fake", STARTING))
    evaluation = subprocess.Popen(
        [sys.executable, "-c", EVALUATION, str(tmp_path / "log")],
        env={**os.environ, "PYTHONPATH": path, "PLACE": str(place)},
    )
    try:
        wait_for(place.exists)
        numbers = [int(word) for word in place.read_text().split()]
        assert all(map(_alive, numbers))
        evaluation.kill()
        evaluation.wait()
        wait_for(lambda: not any(map(_alive, numbers)))
    finally:
        evaluation.kill()
        evaluation.wait()


@needs_proc
def test_what_does_not_end_in_time_is_killed_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "number"
    script = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(150)"])
with open({str(place)!r}, "w") as file:
    file.write(str(child.pid) + " ")
time.sleep(150)
"""
    monkeypatch.setattr(local_server, "GRACE", 0.2)
    process = subprocess.Popen([sys.executable, "-c", script])
    wait_for(lambda: place.exists() and place.read_text().endswith(" "))
    local_server._end(process)
    assert process.returncode == -signal.SIGKILL
    wait_for(lambda: not _alive(int(place.read_text())))
