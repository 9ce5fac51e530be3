"""What the outside may ask of the page, tried on an app that answers everything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from safesight.app.attempts import Attempts
from safesight.app.guard import POLICY, Guard, _body

JSON = {"content-type": "application/json"}
HERE = "http://127.0.0.1:7860"


async def echo(request: Request) -> JSONResponse:
    return JSONResponse((await request.body()).decode())


def client(folder: Path, *, local: bool = True, base: str = HERE) -> TestClient:
    methods = ["GET", "HEAD", "POST", "PUT", "DELETE"]
    everything = Starlette(routes=[Route("/{path:path}", echo, methods=methods)])
    return TestClient(Guard(everything, folder, local), base_url=base)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path",
    ["/", "/config", "/theme.css", "/assets/a.js", "/static/js/b.js", "/gradio_api/queue/data"],
)
def test_what_the_page_needs_is_there(tmp_path: Path, path: str) -> None:
    answer = client(tmp_path).get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/gradio_api/proxy=https://example.org"),
        ("GET", "/gradio_api/file=https://example.org/a.png"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file=relative.png"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/monitoring"),
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/call/ask"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/"),
        ("PUT", "/gradio_api/upload"),
        ("DELETE", "/"),
    ],
)
def test_nothing_else_is(tmp_path: Path, method: str, path: str) -> None:
    body = {} if method == "GET" else {"content": b"{}"}
    answer = client(tmp_path).request(method, path, **body)  # type: ignore[arg-type]
    assert answer.status_code == 404
    assert answer.json() == {"detail": "There is no such page."}
    assert answer.headers["content-security-policy"] == POLICY


def test_files_are_those_of_the_folder(tmp_path: Path) -> None:
    folder, other = tmp_path / "uploads", tmp_path / "other"
    folder.mkdir()
    other.write_text("secret")
    (folder / "link").symlink_to(other)
    (folder / "own").write_text("own")
    site = client(folder)
    assert site.get(f"/gradio_api/file={folder}/own").status_code == 200
    for path in (other, folder / ".." / "other", folder / "link", f"{folder}x"):
        assert site.get(f"/gradio_api/file={path}").status_code == 404, path


@pytest.mark.parametrize("path", ["https://example.org/a.png", "/etc/passwd", "a.png", 7, "a\0"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_question_takes_only_what_was_uploaded(tmp_path: Path, path: Any, deep: bool) -> None:
    site = client(tmp_path)
    own = {"data": [[{"image": {"path": str(tmp_path / "own.png")}}], "what?"]}
    kept = site.post("/gradio_api/queue/join", json=own)
    assert (kept.status_code, json.loads(kept.json())) == (200, own)
    file: Any = {"path": path, "meta": {"_type": "gradio.FileData"}}
    given = {"data": [{"a": [{"b": file}]} if deep else file]}
    answer = site.post("/gradio_api/queue/join", json=given)
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "A picture has to be uploaded first.",
    )


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_question_that_is_no_json_is_refused(tmp_path: Path, body: bytes) -> None:
    answer = client(tmp_path).post("/gradio_api/queue/join", content=body, headers=JSON)
    assert answer.status_code == 400


def test_a_body_has_a_size_and_a_limit(tmp_path: Path) -> None:
    site = client(tmp_path)
    large = b" " * 1_000_001
    assert site.post("/gradio_api/queue/join", content=large).status_code == 413
    assert site.post("/gradio_api/upload", content=large).status_code == 200
    assert site.post("/gradio_api/upload", content=iter([b"a", b"b"])).status_code == 411


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": HERE}, 200),
        ({"origin": "https://example.org"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "localhost:7860"}, 200),
        ({"host": "[::1]:7860"}, 200),
        ({"host": "example.org"}, 421),
        ({"host": "127.0.0.1.example.org:7860"}, 421),
        ({"host": ""}, 421),
    ],
)
def test_other_sites_cannot_ask(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    assert client(tmp_path).get("/config", headers=headers).status_code == status


def test_passwords_cannot_be_found_by_trying(tmp_path: Path) -> None:
    """From one address, whatever it tries at the same time; other visitors still get in."""

    async def login(request: Request) -> JSONResponse:
        right = (await request.body()) == b"right"
        return JSONResponse({}, 200 if right else 400)

    page = Guard(Starlette(routes=[Route("/login", login, methods=["POST"])]), tmp_path, False)

    def tried(word: str, address: str) -> int:
        visitor = TestClient(page, base_url="http://page", client=(address, 1))  # type: ignore[arg-type]
        return visitor.post("/login", content=word).status_code

    here = "192.0.2.7"
    assert [tried("right", here) for _ in range(20)] == [200] * 20
    assert [tried("wrong", here) for _ in range(11)] == [400] * 10 + [429]
    assert tried("right", here) == 429
    assert tried("right", f"::ffff:{here}") == 429
    assert tried("right", "192.0.2.8") == 200
    for number in range(10):
        assert tried("wrong", f"2001:db8::{number}") == 400
    assert tried("right", "2001:db8::ffff") == 429
    assert tried("right", "2001:db8:0:1::") == 200


def test_attempts_count_for_a_time_and_of_so_many_addresses() -> None:
    clock = [0.0]
    attempts = Attempts(most=2, seconds=60, addresses=3, now=lambda: clock[0])
    assert [attempts.take("a") for _ in range(3)] == [True, True, False]
    clock[0] = 59.0
    assert not attempts.take("a")
    clock[0] = 60.0
    assert attempts.take("a")
    for other in "bcd":
        assert attempts.take(other)
    assert len(attempts._times) == 3
    attempts.give_back("a")  # forgotten


def test_a_page_for_others_has_any_name_and_still_one_origin(tmp_path: Path) -> None:
    site = client(tmp_path, local=False, base="http://box.example")
    assert site.get("/").status_code == 200
    assert site.get("/", headers={"origin": "http://box.example"}).status_code == 200
    assert site.get("/", headers={"origin": "http://evil.example"}).status_code == 403


def test_a_size_that_is_not_kept_to_is_no_way_past_the_limit(tmp_path: Path) -> None:
    """A server reads a body in chunks to its end, whatever size stands beside it."""
    both = {**JSON, "content-length": "10", "transfer-encoding": "chunked"}
    asked = client(tmp_path).post("/gradio_api/queue/join", headers=both, content=iter([b"{}"]))
    assert asked.status_code == 411
    huge = {**JSON, "content-length": "9" * 5000}
    assert client(tmp_path).post("/login", headers=huge, content=b"").status_code == 413
    more = {**JSON, "content-length": "10"}
    asked = client(tmp_path).post("/gradio_api/queue/join", headers=more, content=b" " * 1_000_001)
    assert asked.status_code == 413


@pytest.mark.parametrize("header", ["host", "origin"])
def test_an_address_that_cannot_be_read_is_refused_in_words(tmp_path: Path, header: str) -> None:
    answer = client(tmp_path).get("/", headers={header: "http://[::1"[7 * (header == "host") :]})
    assert answer.status_code == 400


def test_a_body_without_end_is_not_kept() -> None:
    parts = iter([{"body": b" " * 100_000, "more_body": True}] * 11)

    async def receive() -> Any:
        return next(parts)  # a twelfth part is not asked for

    assert asyncio.run(_body(receive)) is None
