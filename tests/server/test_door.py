"""The checks in front of a server that is not ours."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from safesight.server.door import CHAT_ONLY, KEYS, Door

PATHS = ("/health", "/v1/chat/completions", "/v1/completions", "/metrics", "/invocations")


def client(
    monkeypatch: pytest.MonkeyPatch, host: str = "localhost", **variables: str
) -> TestClient:
    for name in (KEYS, CHAT_ONLY):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    routes = [Route(path, lambda _: PlainTextResponse("served")) for path in PATHS]
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
