"""What goes wrong: detectors that fail, clients that leave, limits that are reached."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from PIL import Image

from safesight.defenses.shared.linear_gate import LinearGate
from safesight.generation.composition import protection
from safesight.generation.prefill import Decision, Prefill
from safesight.hosting import hosts
from safesight.hosting.streams import BatchStreams
from safesight.server.answering import Places
from safesight.server.connections import Connection
from safesight.server.guardrail import PATH
from safesight.server.refusals import RequestError
from tests.server.serving import Serving, samples, serving, shown, soon, url

ANSWERED = shown(samples("vqa")[0])
WORDS = [{"role": "user", "content": "what is in the picture?"}]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Batches begin only once this is set."""
    may_begin, generated = threading.Event(), hosts.generated

    def wait(*batch: Any) -> Any:
        assert may_begin.wait(30)
        return generated(*batch)

    monkeypatch.setattr(hosts, "generated", wait)
    return may_begin


def test_a_detector_that_fails_refuses_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such layer")

    log = tmp_path / "decisions.jsonl"
    with serving(log) as served:
        monkeypatch.setattr(LinearGate, "judge", broken)
        for stream in (False, True):
            answer = served.post(
                {"model": "testbed", "messages": ANSWERED, "stream": stream, "max_tokens": 4}
            )
            assert answer.status_code == 200
            assert answer.headers["x-safesight-refused"] == "true"
            assert "content_filter" in answer.text
        field = served.ask(ANSWERED).safesight["decisions"]["probe"]
        assert field["refused"]
        assert field["failed"]
        assert field["score"] is None
        assert served.metric("safesight_detector_failures_total") == 3
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 3
    assert all("no such layer" in line["error"] and line["refused"] for line in lines)
    assert all("prompt" not in line for line in lines)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_counts_as_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score: float
) -> None:
    def unsound(self: LinearGate, prefill: Prefill) -> Decision:
        scores = torch.full((len(self.read(prefill)),), score)
        return Decision(scores, scores < 0, 0.0)

    log = tmp_path / "decisions.jsonl"
    with serving(log) as served:
        monkeypatch.setattr(LinearGate, "judge", unsound)
        field = served.ask(ANSWERED, max_tokens=1).safesight["decisions"]["probe"]
        assert field["refused"]
        assert field["failed"]
        assert served.metric("safesight_detector_failures_total") == 1
    assert "not a finite number" in json.loads(log.read_text())["error"]


def test_a_refusal_is_logged_though_the_client_has_left(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    with serving(log) as served:
        stream = served.ask(shown(samples("image_harm")[0]), stream=True)
        next(iter(stream))  # the role, before any text
        stream.close()
        assert soon(lambda: bool(log.read_text()))
    assert json.loads(log.read_text().splitlines()[0])["refused"]


def test_a_model_that_breaks_answers_nothing(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(hosts, "generated", broken)
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as caught:
            list(served.ask(ANSWERED, stream=stream))
        assert "secret" not in str(caught.value)
    assert soon(lambda: served.places() == 0)


def test_a_guardrail_that_cannot_judge_blocks(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An HTTP error would be no verdict, and gateways may go on without one."""
    body = {"input_type": "request", "texts": ["what is a cup?"]}
    assert served.post(body, PATH).json() == {"action": "NONE"}

    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(hosts, "generated", broken)
    answer = served.post(body, PATH)
    assert answer.status_code == 200
    assert answer.json()["action"] == "BLOCKED"
    assert "secret" not in answer.text
    with serving(max_waiting=1, max_text=20) as full:
        monkeypatch.setattr("safesight.server.answering.Places.take", busy)
        assert full.post(body, PATH).json()["action"] == "BLOCKED"
        assert full.post({**body, "texts": ["a" * 21]}, PATH).json()["action"] == "BLOCKED"


def busy(*_: object) -> None:
    raise RequestError("The server is busy.", status=429)


def test_pictures_of_all_requests_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten kilobytes may be a hundred megabytes of pixels."""
    seen: list[int] = []
    held = Places.hold

    def hold(self: Places, pixels: int) -> None:
        self.most_pixels = 3_000_000
        held(self, pixels)
        seen.append(self.pixels)

    monkeypatch.setattr(Places, "hold", hold)
    part = {"type": "image_url", "image_url": {"url": url(Image.new("L", (1000, 1000)))}}
    three, four = ([{"role": "user", "content": [part] * number}] for number in (3, 4))
    with serving() as served:
        for _ in range(2):  # what was held is given back
            served.ask(three, max_tokens=1)
        assert seen == [1_000_000, 2_000_000, 3_000_000] * 2
        with pytest.raises(openai.BadRequestError, match="too large for n = 1"):
            served.ask(four, max_tokens=1)  # which no waiting would help
        served.ask(three, max_tokens=1, stream=True).close()
        assert soon(lambda: served.places() == 0)
        served.ask(three, max_tokens=1)


def test_pictures_that_only_others_leave_no_room_for_may_come_again() -> None:
    places = Places(2, most_pixels=3)
    places.hold(2)
    with pytest.raises(RequestError, match="large pictures") as refused:
        places.hold(2)
    assert refused.value.status == 429


def test_what_no_one_foresaw_is_still_an_error_of_the_protocol(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("safesight.server.chat.chat_request", broken)
    answer = served.post({"model": "testbed", "messages": WORDS})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text


def _left(
    served: Serving, fields: Any, when: Callable[[socket.socket], Any], part: float = 1
) -> None:
    """Send a part of a request over a socket, wait for something, and close it."""
    host, _, port = served.root.removeprefix("http://").partition(":")
    content = json.dumps({"model": "testbed", "messages": WORDS, **fields}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(head.encode() + content[: int(part * len(content))])
        when(client)


LONG = {
    "max_tokens": 512,
    "n": 4,
    "temperature": 2,
    "safesight": {"defense": ["none"]},
}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(
    served: Serving, held: threading.Event, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """While its request is sent, while it waits for a batch, and while its answer is written."""
    heard = BatchStreams.put
    monkeypatch.setattr(BatchStreams, "put", lambda *put: (time.sleep(0.1), heard(*put))[1])
    fields = {**LONG, "stream": stream}
    vanished = _vanished(served)
    _left(served, fields, lambda client: None, part=0.5)
    _left(served, fields, lambda client: soon(lambda: served.places() == 4))
    held.set()
    assert soon(lambda: served.places() == 0)
    if stream:
        _left(served, fields, lambda client: client.recv(10))
    else:
        _left(served, fields, lambda client: soon(lambda: _written(served)))
    assert soon(lambda: served.places() == 0)
    # A stream that has begun has a status already.
    assert soon(lambda: _vanished(served) - vanished == (2 if stream else 3))
    assert served.ask(WORDS, max_tokens=1).choices[0].message.content


def _written(served: Serving) -> bool:
    return served.metric("safesight_requests_running") == 4


def _vanished(served: Serving) -> float:
    labels = '{route="/v1/chat/completions",status="499"}'
    return served.metric(f"safesight_requests_total{labels}")


def test_requests_of_clients_that_left_are_not_kept(served: Serving, held: threading.Event) -> None:
    batcher = served.host.batcher
    running = threading.Thread(target=lambda: served.ask(WORDS, max_tokens=1))
    running.start()
    assert soon(lambda: served.places() == 1 and not batcher.waiting)
    for _ in range(3):
        _left(served, {}, lambda client: time.sleep(0.1))
    assert soon(lambda: not batcher.waiting)
    held.set()
    running.join(30)
    assert soon(lambda: served.places() == 0)


def test_a_full_server_says_so_and_a_late_answer_ends(held: threading.Event) -> None:
    with serving(max_waiting=2, seconds=3.0) as served:
        with pytest.raises(openai.BadRequestError, match="between 1 and 2"):
            served.ask(WORDS, n=3)
        failures: list[Exception] = []

        def ask(**fields: Any) -> None:
            try:
                list(served.ask(WORDS, **fields))
            except openai.OpenAIError as error:
                failures.append(error)

        asking = [threading.Thread(target=ask, kwargs={"stream": s}) for s in (False, True)]
        for each in asking:
            each.start()
        assert soon(lambda: served.places() == 2)
        with pytest.raises(openai.RateLimitError) as caught:
            served.ask(WORDS)
        assert caught.value.response.headers["retry-after"]
        for each in asking:
            each.join(30)
        assert [error.status_code for error in failures] == [504, 504]  # type: ignore[attr-defined]
        held.set()
        assert soon(lambda: served.places() == 0)
        assert served.ask(WORDS).choices[0].message.content


def test_texts_and_pictures_have_limits() -> None:
    with serving(max_text=50, max_pictures=1) as served:
        two = [*ANSWERED[0]["content"], *ANSWERED[0]["content"]]
        for messages, tools in (
            ([{"role": "user", "content": "a" * 51}], None),
            (
                [{"role": "user", "content": "a"}],
                [{"type": "function", "function": {"name": "f", "description": "a" * 51}}],
            ),
            ([{"role": "user", "content": two}], None),
        ):
            with pytest.raises(openai.BadRequestError):
                served.ask(messages, tools=tools or openai.NOT_GIVEN)


def test_a_request_that_is_refused_does_not_slow_the_others_down(
    served: Serving, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that cannot be encoded breaks its batch in two, and not into its rows."""
    sizes: list[int] = []
    inner = hosts.generated
    monkeypatch.setattr(hosts, "generated", lambda vlm, b: (sizes.append(len(b)), inner(vlm, b))[1])
    found: list[int] = []
    placeholder = served.host.vlm.control_tokens.placeholders.pattern.replace("\\", "")
    half = len(placeholder) // 2
    parts = [{"type": "text", "text": t} for t in (placeholder[:half], placeholder[half:])]
    bad = [{"role": "user", "content": parts}]

    def ask(messages: Any) -> None:
        body = {"model": "testbed", "messages": messages, "max_tokens": 2}
        found.append(served.post(body).status_code)

    threads = [threading.Thread(target=ask, args=(m,)) for m in [WORDS] * 8 + [bad] + [WORDS] * 7]
    for thread in threads:
        thread.start()
    assert soon(lambda: served.places() == 16)
    time.sleep(0.2)
    held.set()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [200] * 15 + [400]
    assert len(sizes) <= 12


def test_no_batch_runs_without_its_defenses(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spy(monkeypatch)
    threads = [
        threading.Thread(target=served.ask, args=(ANSWERED,), kwargs={"extra_body": body})
        for body in ({}, {"safesight": {"defense": ["none"]}}, {"safesight": {"defense": "probe"}})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {name for name, _ in seen} == {"probe", "none"}


def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Note each batch's defense, and fail if another is attached, or none."""
    seen: list[tuple[str, bool]] = []
    generated = hosts.generated

    def watched(vlm: Any, batch: Any) -> Any:
        arms = {each.arm.identity: each.arm for each in batch}
        assert len(arms) == 1
        arm = next(iter(arms.values()))
        attached = protection(vlm.model) is not None
        assert attached == bool(arm.defenses)
        seen.append((arm.name, attached))
        return generated(vlm, batch)

    monkeypatch.setattr(hosts, "generated", watched)
    return seen


def test_the_log_says_who_sent_no_http(served: Serving) -> None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    host, _, port = served.root.removeprefix("http://").partition(":")
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(handler)
    try:
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(b"hello\r\n\r\n")
            client.recv(4096)
            mine = client.getsockname()[1]
    finally:
        logger.removeHandler(handler)
    assert said == [f"Invalid HTTP request received. (from 127.0.0.1:{mine})"]


HEALTH = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    ("before", "sent"), [(b"", b""), (b"", HEALTH[:30]), (HEALTH, HEALTH[:30])]
)
def test_a_client_that_sends_no_whole_request_is_cut_off(
    served: Serving, monkeypatch: pytest.MonkeyPatch, before: bytes, sent: bytes
) -> None:
    monkeypatch.setattr(Connection, "header_seconds", 0.3)
    host, _, port = served.root.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        if before:
            client.sendall(before)
            assert b"200 OK" in client.recv(4096)
        client.sendall(sent)
        with suppress(ConnectionResetError):
            while client.recv(4096):
                pass
