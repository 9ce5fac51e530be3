"""`safesight serve`: starts, ends, and what it refuses before anything listens."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from safesight.errors import InputError
from safesight.fitting.bundled import FOLDER, place_in
from safesight.hosting.arms import Arm
from safesight.hosting.ports import address_of, listening
from tests import tiny
from tests.cli.test_main import fails, run
from tests.server.serving import soon


@pytest.fixture
def port() -> int:
    """A port that nothing listens on."""
    with listening("127.0.0.1", 0) as door:
        return int(door.getsockname()[1])


@pytest.fixture
def other(tmp_path: Path) -> str:
    """A model that no artifact was fitted on."""
    vlm = tiny.vlm("llava")
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    return str(tmp_path)


PROBE = ("--defense", "probe")


@pytest.mark.parametrize(
    ("words", "pieces"),
    [
        (("--defense", "prob"), ("prob", "probe")),
        (("--defense", "probe,"), ("--defense",)),
        (("--defense", "probe,none"), ("none",)),
        (("--defense", f"none={place_in('testbed', 'probe')}"), ("takes no artifact", "none")),
        (("--defense", f"safety_prompt={place_in('testbed', 'probe')}"), ("is not fitted",)),
        (("--defense", f"probe={FOLDER}"), ("not the folder of an artifact", "config.json")),
        (("--defense", ""), ("--defense is empty. Give it a value.",)),
        ((*PROBE, "--log-prompts"), ("--log-prompts", "--decision-log")),
        (("--defense", "probe,probe"), ("twice",)),
        ((*PROBE, "--allow", "sasa"), ("sasa", "not served")),
        ((*PROBE, "--allow", " , "), ("--allow",)),
        (("--defense", "none", "--allow-threshold"), ("No detector",)),
        ((*PROBE, "--host", "0.0.0.0"), ("API key",)),
        ((*PROBE, "--api-key-file", "missing.txt"), ("missing.txt",)),
        ((*PROBE, "--allow-image-host", "10.0.0.1"), ("10.0.0.1",)),
        ((*PROBE, "--decision-log", "/dev/null"), ("/dev/null",)),
        (("--defense", "probe=missing"), ("missing",)),
        ((*PROBE, "--model", "missing/folder"), ("missing/folder",)),
    ],
    ids=lambda words: " ".join(words[-2:]),
)
def test_what_cannot_be_served_is_said_before_anything_listens(
    words: tuple[str, ...], pieces: tuple[str, ...], port: int
) -> None:
    fails(run("serve", *words, "--port", str(port)), *pieces)
    assert not _listens(port)


def test_an_artifact_of_another_model(other: str, port: int) -> None:
    folder = str(place_in("testbed", "probe"))
    result = run("serve", "--model", other, "--defense", f"probe={folder}", "--port", str(port))
    fails(result, "was fitted on", "safesight fit probe")


def test_defenses_that_cannot_be_attached(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise InputError("The two cannot be attached together.")

    monkeypatch.setattr(Arm, "attached", refused)
    fails(run("serve", *PROBE, "--port", str(port)), "cannot be attached")
    assert not _listens(port)


def test_a_port_that_is_taken_or_is_none() -> None:
    fails(run("serve", *PROBE, "--port", "65536"), "65536", "not possible")
    with listening("127.0.0.1", 0) as door:
        taken = str(door.getsockname()[1])
        fails(run("serve", *PROBE, "--port", taken), "is taken", taken)


def test_clients_are_told_the_name_and_not_the_folder(
    other: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def created(served: Any, *_: object, **__: object) -> None:
        seen.append(served.vlm.name)
        raise InputError("Enough.")

    monkeypatch.setattr("safesight.server.app.create_app", created)
    words = ("--model", other, "--defense", "none", "--name", "mine", "--port", str(port))
    fails(run("serve", *words), "Enough.")
    assert seen == ["mine"]


def test_an_address_can_be_opened() -> None:
    with listening("0.0.0.0", 0) as door:
        assert address_of(door) == f"http://127.0.0.1:{door.getsockname()[1]}"


def test_a_stalled_client_is_cut_off_by_the_system() -> None:
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("the system has no such limit")
    with listening("127.0.0.1", 0) as door, socket.create_connection(door.getsockname()[:2]):
        accepted, _ = door.accept()
        with accepted:
            option = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert option > 0


@contextmanager
def started(*words: str) -> Iterator[tuple[Any, openai.OpenAI]]:
    """The program, and a client of it."""
    command = [sys.executable, "-m", "safesight", "serve", *PROBE, "--allow", "none", *words]
    environment = {**os.environ, "COLUMNS": "200"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stderr is not None
        said = ""
        while "/v1" not in said:
            line = program.stderr.readline()
            assert line, said
            said += line
        address = re.search(r"http://\S+/v1", said)
        assert address is not None
        try:
            with openai.OpenAI(base_url=address[0], api_key="none", max_retries=0) as client:
                yield program, client
        finally:
            program.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_answers_end(number: int, port: int) -> None:
    asked: dict[str, Any] = {
        "model": "testbed",
        "messages": [{"role": "user", "content": "what is in the picture?"}],
        "max_tokens": 300,
        "n": 8,
        "temperature": 2,
        "seed": 1,
        "extra_body": {"safesight": {"defense": ["none"]}},
    }
    for _ in range(2):  # the port is free again at once
        with started("--port", str(port)) as (program, client):
            whole = [c.message.content for c in client.chat.completions.create(**asked).choices]
            texts, reasons = [""] * 8, [None] * 8
            for at, event in enumerate(client.chat.completions.create(**asked, stream=True)):
                if at == 0:
                    program.send_signal(number)
                    assert soon(lambda: not _listens(port))
                (choice,) = event.choices
                texts[choice.index] += choice.delta.content or ""
                reasons[choice.index] = choice.finish_reason
            assert texts == whole
            assert all(reasons)
            assert program.wait(30) == 0


@pytest.mark.slow
def test_a_second_ctrl_c_breaks_off_and_says_so(port: int) -> None:
    asked: dict[str, Any] = {
        "model": "testbed",
        "messages": [{"role": "user", "content": "what is in the picture?"}],
        "max_tokens": 900,
        "n": 8,
        "temperature": 2,
        "extra_body": {"safesight": {"defense": ["none"]}},
    }
    with started("--port", str(port)) as (program, client), ThreadPoolExecutor() as pool:
        stream = client.chat.completions.create(**asked, stream=True)
        whole = pool.submit(client.chat.completions.create, **asked)
        next(iter(stream))
        metrics = f"http://127.0.0.1:{port}/metrics"
        assert soon(lambda: "safesight_requests_waiting 8" in httpx.get(metrics).text)
        program.send_signal(signal.SIGINT)
        line = program.stderr.readline()
        assert re.fullmatch(r"Finishing \d+ answers. Ctrl\+C again stops at once.\n", line)
        program.send_signal(signal.SIGINT)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
        with pytest.raises(openai.InternalServerError, match="shutting down") as caught:
            whole.result(30)
        assert caught.value.status_code == 503
        assert program.wait(30) == 0
        assert program.stderr.read() == ""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
