"""The checks in front of a server that is not ours."""

from __future__ import annotations

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from safesight.server.door import CHAT_ONLY, KEYS, Door

PATHS = ("/health", "/v1/chat/completions", "/v1/completions", "/metrics", "/invocations")


async def served(request: Request) -> PlainTextResponse:
    return PlainTextResponse((await request.body()).decode() or "served")


def client(
    monkeypatch: pytest.MonkeyPatch, host: str = "localhost", **variables: str
) -> TestClient:
    for name in (KEYS, CHAT_ONLY):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    routes = [Route(path, served, methods=["GET", "POST"]) for path in PATHS]
    return TestClient(Door(Starlette(routes=routes)), base_url=f"http://{host}")


def test_with_keys_every_path_but_health_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "k" * 20
    with client(monkeypatch, "example.org", **{KEYS: f"{'o' * 20}\n{key}"}) as asking:
        found = {path: asking.get(path).status_code for path in PATHS}
        assert found == {**dict.fromkeys(PATHS, 401), "/health": 200}
        assert asking.get("/metrics", headers={"Authorization": f"Bearer {key}"}).text == "served"


def test_without_keys_only_this_machine_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with client(monkeypatch) as asking:
        assert asking.get("/v1/completions").text == "served"
        assert asking.get("/health", headers={"Origin": "https://a.example"}).status_code == 403
    with client(monkeypatch, "rebound.example") as asking:
        assert asking.get("/v1/completions").status_code == 403


def test_where_a_defense_is_in_the_template_only_chats_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with client(monkeypatch, **{CHAT_ONLY: "1"}) as asking:
        found = {path: asking.get(path).status_code for path in PATHS}
    assert found == {**dict.fromkeys(PATHS, 200), "/v1/completions": 404, "/invocations": 404}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"messages": [], "truncate_prompt_tokens": 4}', 400),
        (b'{"messages": [], "tr\\u0075ncate_prompt_tokens": 4}', 400),
        (b'{"messages": [], "truncation_side": "right"}', 400),
        (b'{"messages": [], "chat_template_kwargs": {"bos_token": ""}}', 400),
        (
            b'{"messages": [], "truncate_prompt_tokens": null, "chat_template_kwargs": {"a": 1}}',
            200,
        ),
        (b"not json", 200),
        (b"[1]", 200),
    ],
)
def test_nothing_cuts_off_what_the_template_writes(
    monkeypatch: pytest.MonkeyPatch, body: bytes, status: int
) -> None:
    with client(monkeypatch, **{CHAT_ONLY: "1"}) as asking:
        answer = asking.post("/v1/chat/completions", content=body)
    assert answer.status_code == status
    if status == 200:
        assert answer.text == body.decode(), "it arrives as it was sent"
    with client(monkeypatch) as asking:
        assert asking.post("/v1/chat/completions", content=body).status_code == 200


def test_who_leaves_while_asking_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS, raising=False)
    monkeypatch.setenv(CHAT_ONLY, "1")
    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def unused(*_: object) -> None:
        raise AssertionError("nobody is there to hear it")

    asyncio.run(Door(unused)(scope, gone, unused))
