"""A running server is asked who it is, and a wrong one is never taken for the right one."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("inspect_ai")

from safesight.errors import InputError
from safesight.fitting.reference import conversations
from safesight.vllm import remote
from safesight.vllm.about import About
from safesight.vllm.remote import OFF, ON, found_at, remote_endpoints
from tests import tiny


class Server:
    """Answers as vLLM does, with one tiny model."""

    def __init__(self) -> None:
        self.about: About | None = None
        self.pictures, self.status, self.page = True, 200, b""
        self.key, self.asked = "", list[dict[str, Any]]()
        vlm = tiny.vlm("llava")
        self.knows = {
            m[0]["content"][-1]["text"]: remote._first(vlm, m) for _, m in conversations()
        }
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.key = self.headers["Authorization"]
                models = {"data": [{"id": "served"}]}
                self._send(server.status, {"version": "9.9"} if "version" in self.path else models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(body)
                self._send(*server.answer(body))

            def _send(self, status: int, body: Any) -> None:
                text = server.page or json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        wanted = body.get("vllm_xargs", {}).get("safesight")
        if wanted == "describe" and self.about is not None:
            return 400, {"error": {"message": self.about.told()}}
        content = body["messages"][0]["content"]
        if content[0]["type"] == "image_url" and not self.pictures:
            return 400, {"error": {"message": "no pictures"}}
        count, chance = self.knows[content[-1]["text"]]
        choice = {"logprobs": {"content": [{"logprob": chance}]}}
        return 200, {"choices": [choice], "usage": {"prompt_tokens": count}}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.http.serve_forever, daemon=True).start()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture(autouse=True)
def prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defense's fingerprint is its name, so that none has to be fitted."""
    monkeypatch.setattr(remote, "fingerprint", lambda defense, _: f"fit of {defense.name}")


def arms(*names: str, kind: str = "detector") -> Any:
    def defenses(name: str) -> Any:
        parts = [] if name == "none" else name.split("+")
        return tuple((SimpleNamespace(name=part, kind=kind), None) for part in parts)

    return [SimpleNamespace(name=name, defenses=defenses(name)) for name in names]


def with_defenses(*names: str, per_request: bool = True) -> About:
    return About(defenses={name: f"fit of {name}" for name in names}, per_request=per_request)


def endpoints(server: Server, *names: str, **kind: str) -> Any:
    vlm = tiny.vlm("llava")
    return remote_endpoints(vlm, server.url + "/v1/", "a-key", arms(*names, **kind))


def test_a_server_with_the_same_model_and_defense(server: Server) -> None:
    server.about = with_defenses("probe")
    found = endpoints(server, "none", "probe")
    assert {name: dict(each.body) for name, each in found.items()} == {"none": OFF, "probe": ON}
    there = found["probe"].server
    assert (there.engine, there.address.model) == ("vllm 9.9", "served")
    assert (there.address.url, server.key) == (f"{server.url}/v1", "Bearer a-key")
    compared = server.asked[1:]
    assert len(compared) == len(conversations())
    assert all(body["vllm_xargs"] == OFF["vllm_xargs"] for body in compared)


def test_a_server_with_a_defense_in_its_template_is_refused(server: Server) -> None:
    server.about = About(
        defenses={"probe": "fit of probe"}, per_request=True, template={"safety_prompt": "a1"}
    )
    for names in (("none", "probe"), ("none",)):
        with pytest.raises(InputError, match="has safety_prompt in its chat template"):
            endpoints(server, *names)


def test_a_server_without_defenses_answers_the_undefended_arm(server: Server) -> None:
    server.pictures = False
    found = endpoints(server, "none")
    assert dict(found["none"].body) == {}
    server.about = About(defenses={}, per_request=False)
    assert dict(endpoints(server, "none")["none"].body) == {}


@pytest.mark.parametrize(
    ("about", "names", "words"),
    [
        (None, ("none", "probe"), "no defenses of safesight .* answer probe undefended"),
        (with_defenses(), ("none", "probe"), "defended by none, not by probe"),
        (with_defenses("sasa"), ("none", "probe"), "defended by sasa, not by probe"),
        (with_defenses("sasa", "probe"), ("none", "probe+sasa"), r"sasa\+probe, not by probe"),
        (
            About(defenses={"probe": "another"}, per_request=True),
            ("none", "probe"),
            "another artifact",
        ),
        (with_defenses("probe", per_request=False), ("none", "probe"), "--allow none"),
        (with_defenses("probe", per_request=False), ("none",), "cannot answer undefended"),
        (with_defenses("probe"), ("none", "probe", "sasa"), "one configuration"),
    ],
)
def test_a_server_with_other_defenses(
    server: Server, about: About | None, names: tuple[str, ...], words: str
) -> None:
    server.about = about
    with pytest.raises(InputError, match=words):
        endpoints(server, *names)


@pytest.mark.parametrize("kind", ["input", "weights"])
def test_what_no_request_can_turn_off(server: Server, kind: str) -> None:
    with pytest.raises(InputError, match=r"npo is in the .* undefended arm"):
        endpoints(server, "none", "npo", kind=kind)
    assert not server.asked


@pytest.mark.parametrize(
    ("tokens", "chance", "words"),
    [
        (1, 0.0, "model or chat template"),
        (0, -1.0, "another model than"),
        (0, float("nan"), "model"),
    ],
)
def test_a_server_with_another_model(
    server: Server, tokens: int, chance: float, words: str
) -> None:
    server.about = with_defenses("probe")
    question, (count, own) = list(server.knows.items())[-1]
    server.knows[question] = (count + tokens, own + chance)
    with pytest.raises(InputError, match=words):
        endpoints(server, "none", "probe")


def test_a_server_that_answers_something_else(server: Server) -> None:
    server.page = b"<html>"
    with pytest.raises(InputError, match="does not answer as vLLM does"):
        found_at(server.url, "")
    server.status = 401
    with pytest.raises(InputError, match=r"status 401\. Check address and key"):
        found_at(server.url, "")


@pytest.mark.parametrize("url", ["a.example", "localhost:8000", "", "file:///etc/hostname"])
def test_an_address_of_no_server(url: str) -> None:
    with pytest.raises(InputError, match="http://host:8000"):
        found_at(url, "")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://[", "http://a b", "http://a:b"])
def test_an_address_where_nobody_answers(url: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read .* Check address and key"):
        found_at(url, "")


def test_an_address_where_another_program_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:

        def greet() -> None:
            client, _ = door.accept()
            client.recv(1024)
            client.sendall(b"SSH-2.0-Server\r\n")
            client.close()

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(InputError, match="cannot be read"):
            found_at(f"http://127.0.0.1:{door.getsockname()[1]}", "")


def test_a_server_that_never_answers_is_not_waited_for_as_long_as_for_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "_PATIENCE_FOR_FACTS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=r"cannot be read \(timed out\)"):
            found_at(url, "")
