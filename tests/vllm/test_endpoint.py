"""Answers of another engine: what is asked of it, and that they are never taken for ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from safesight.compare.folder import scorecard_of
from safesight.errors import InputError, SafesightError
from safesight.evals import read_answers, run_eval
from safesight.evals.asking import seed_of
from safesight.evals.endpoint import Address, Endpoint, check_client
from safesight.vllm.remote import OFF, ON

try:
    check_client()
except SafesightError as told:
    pytestmark = pytest.mark.skip(reason=str(told))


class Engine:
    """A server that says the same to everybody, and keeps what it was asked."""

    engine = "vllm 9.9"

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.runs = 0
        self.status = 200
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                models = {"data": [{"id": "served"}]}
                self._send(200, {"version": "9.9"} if self.path == "/version" else models)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                engine.asked.append(json.loads(self.rfile.read(length)))
                message = {"role": "assistant", "content": " a cup."}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
                body = {"id": "1", "object": "chat.completion", "created": 1, "model": "served"}
                refused = {"error": {"message": "not allowed", "type": "invalid", "code": 400}}
                fine = engine.status == 200
                self._send(
                    engine.status,
                    {**body, "choices": [choice], "usage": usage} if fine else refused,
                )

            def _send(self, status: int, body: Any) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.address = Address(f"{self.url}/v1", "a-key", "served")

    @contextmanager
    def running(self) -> Iterator[None]:
        self.runs += 1
        yield


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()


def evaluate(folder: Path, engine: Engine | None, *arms: str, limit: int = 2) -> None:
    places = None
    if engine is not None:
        places = {arm: Endpoint(engine, OFF if arm == "none" else ON) for arm in arms}
    run_eval(
        defenses=arms, tasks=["vqa"], limit=limit, log_dir=folder, progress=False, endpoints=places
    )


def test_every_arm_is_asked_for_with_greedy_decoding(engine: Engine, tmp_path: Path) -> None:
    evaluate(tmp_path, engine, "none", "probe")
    assert engine.runs == 1
    assert [each["vllm_xargs"]["safesight"] for each in engine.asked] == ["off"] * 2 + ["on"] * 2
    for body in engine.asked:
        assert body["temperature"] == 0
        assert body["max_tokens"] > 0
        kinds = [part["type"] for part in body["messages"][-1]["content"]]
        assert sorted(kinds) == ["image_url", "text"]
    answers = read_answers(tmp_path)
    assert {answer.answer for answer in answers} == {"a cup."}
    assert {answer.defense for answer in answers} == {"none", "probe"}


def test_a_temperature_and_the_seed_of_each_answer_reach_it(engine: Engine, tmp_path: Path) -> None:
    run_eval(
        tasks=["vqa"],
        limit=2,
        log_dir=tmp_path,
        progress=False,
        endpoints={"none": Endpoint(engine)},
        temperature=0.8,
    )
    assert [body["temperature"] for body in engine.asked] == [0.8] * 2
    ids = {answer.sample_id for answer in read_answers(tmp_path)}
    assert {body["seed"] for body in engine.asked} == {seed_of(0, id, 0) for id in ids}


def test_answers_of_two_engines_are_never_mixed(engine: Engine, tmp_path: Path) -> None:
    evaluate(tmp_path, engine, "none")
    evaluate(tmp_path, engine, "none")
    assert len(engine.asked) == 2  # resumed: there was nothing left to ask
    evaluate(tmp_path, None, "probe")
    ours = [each for each in read_answers(tmp_path) if each.defense == "probe"]
    assert "a cup." not in {each.answer for each in ours}
    with pytest.raises(InputError, match="version"):
        scorecard_of(tmp_path)


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_request_that_the_server_refuses_ends_the_run(
    engine: Engine, tmp_path: Path, status: int
) -> None:
    engine.status = status
    with pytest.raises(SafesightError, match="not allowed"):
        evaluate(tmp_path, engine, "none")
