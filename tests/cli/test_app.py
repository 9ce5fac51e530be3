"""`safesight app`: what is refused before anything is served, and how the page ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import transformers as hf

from safesight.fitting.bundled import place_in
from tests import tiny
from tests.cli.test_main import fails, run


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random-weight LLaVA on disk, for which nothing was fitted."""
    folder = tmp_path_factory.mktemp("model")
    vlm = tiny.vlm("llava")
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def text_only(tmp_path: Path) -> str:
    words = tiny.tokenizer()
    hf.LlamaForCausalLM(hf.LlamaConfig(**tiny.text_config(words))).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFESIGHT_APP_PASSWORD", raising=False)


def test_a_port_that_is_taken(taken: int) -> None:
    fails(run("app", "--port", str(taken)), f"Port {taken} of 127.0.0.1 is taken", "--port")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 70, "a..b"])
def test_an_address_of_another_machine(host: str) -> None:
    fails(run("app", "--port", "0", "--host", host), "--host")


def test_another_address_needs_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("app", "--port", "0", "--host", "0.0.0.0", "--model", "nowhere")
    fails(run(*asked), "Set a password in the environment variable SAFESIGHT_APP_PASSWORD")
    monkeypatch.setenv("SAFESIGHT_APP_PASSWORD", "short")
    fails(run(*asked), "at least 8 characters")
    monkeypatch.setenv("SAFESIGHT_APP_PASSWORD", "long enough")
    fails(run(*asked), "nowhere")


@pytest.mark.parametrize(
    ("words", "pieces"),
    [
        (("--defense", "sassa"), ("no defense called 'sassa'", "sasa")),
        (("--defense", ""), ("--defense is empty",)),
        (("--defense", "safety_prompt+sasa,rai,probe,ecso,coca"), ("5 defenses", "at most 4")),
        (("--artifact", "nowhere"), ("nowhere",)),
        (("--model", "nowhere"), ("nowhere",)),
    ],
)
def test_what_is_not_there(words: tuple[str, ...], pieces: tuple[str, ...]) -> None:
    fails(run("app", "--port", "0", *words), *pieces)


def test_a_model_that_takes_no_pictures(text_only: str) -> None:
    fails(run("app", "--port", "0", "--model", text_only), "takes no pictures")


def test_what_is_of_another_model(strange: str) -> None:
    own = ("app", "--port", "0", "--model", strange)
    fails(run(*own, "--artifact", str(place_in("testbed", "sasa"))), "fitted on")
    fails(run(*own, "--defense", "sasa"), "sasa has no bundled artifact")


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safesight.extras.find_spec", lambda name: None)
    fails(run("app"), "The web app needs gradio", "safesight[app]")


def test_a_failed_start_leaves_the_port_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    fails(run("app", "--port", str(port), "--model", "nowhere"))
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_the_page_is_served_until_it_is_stopped(strange: str, tmp_path: Path) -> None:
    words = ["app", "--port", "0", "--model", strange, "--references", "0"]
    command = [sys.executable, "-m", "safesight", *words]
    place = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=place) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + process.stderr.read()
        with urlopen(found[0], timeout=60) as answer:
            assert b"safesight" in answer.read()
        assert list(tmp_path.glob("safesight-app-*"))
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert "Stopped." in rest
    assert "Traceback" not in rest
    assert not list(tmp_path.glob("safesight-app-*"))
