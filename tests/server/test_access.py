"""Keys, host names and what a server may listen on."""

from __future__ import annotations

import hmac

import pytest

from safesight.errors import InputError
from safesight.server.access import KeyCheck, LocalOnly, check_binding, keys_of
from tests.server.asgi import Echo, ask

KEY, OTHER = "correct-horse-battery", "another-key-of-someone"


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", f"Bearer {KEY}")],
        [("authorization", f"bearer  {OTHER} ")],
        [("x-api-key", OTHER)],
        [("authorization", "Basic abc"), ("x-api-key", KEY)],
    ],
)
def test_a_key_opens(headers: list[tuple[str, str]]) -> None:
    assert ask(KeyCheck(Echo(), [KEY, OTHER]), headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", KEY)],
        [("authorization", f"Basic {KEY}")],
        [("authorization", f"Bearer {KEY}x")],
        [("authorization", f"Bearer {KEY[:-1]}")],
        [("authorization", f"Bearer {KEY.upper()}")],
        [("authorization", f"Bearer {KEY} {OTHER}")],
        [("authorization", b"Bearer \xff\xfe\x00")],
        [("x-api-key", "é".encode("latin-1"))],
        [("x-api-key", "")],
        [("cookie", f"authorization=Bearer {KEY}")],
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/", "/health/", "//health", "/Health"])
def test_nothing_else_opens(headers: list[tuple[str, str | bytes]], path: str) -> None:
    app = Echo()
    answer = ask(KeyCheck(app, [KEY, OTHER]), headers=headers, path=path)
    assert (answer.status, app.bodies) == (401, [])
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.error["code"] == "invalid_api_key"
    assert answer.error["type"] == "invalid_request_error"
    assert KEY not in answer.body.decode()


def test_health_and_lifespan_need_no_key_and_websockets_do() -> None:
    app = Echo()
    checked = KeyCheck(app, [KEY])
    assert ask(checked, path="/health").status == 200
    ask(checked, kind="lifespan")
    assert app.bodies == [b"", b"lifespan"]
    assert ask(checked, kind="websocket").status == 401
    assert len(app.bodies) == 2


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    constant = hmac.compare_digest

    def noted(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return constant(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    for given in (KEY, OTHER, "x"):
        ask(KeyCheck(Echo(), [KEY, OTHER]), headers=[("x-api-key", given)])
    assert compared == [(32, 32)] * 6


def test_a_check_needs_keys() -> None:
    with pytest.raises(ValueError, match="without keys"):
        KeyCheck(Echo(), [])


def test_keys_are_lines() -> None:
    assert keys_of(f"# of the web app\n{KEY}\n\n  {OTHER}  \n", "keys.txt") == (KEY, OTHER)
    assert keys_of(KEY, "SAFESIGHT_API_KEY") == (KEY,)


@pytest.mark.parametrize(
    "text", ["", "\n# nothing\n", "tiny-key", "a key with some spaces", "ä" * 20]
)
def test_a_text_without_a_good_key_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"keys\.txt") as refused:
        keys_of(text, "keys.txt")
    assert not text.strip() or text not in str(refused.value)


def test_only_loopback_needs_no_key() -> None:
    for host in ("localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]"):
        check_binding(host, [])
    for host in ("0.0.0.0", "::", "", "192.168.1.5", "example.org", "127.0.0.1.example.org"):
        with pytest.raises(InputError, match="API key"):
            check_binding(host, [])
        check_binding(host, [KEY])


LOCAL = ("localhost", "localhost:8000", "LocalHost:8000", "127.0.0.1:8000", "127.0.0.2", "[::1]:80")


@pytest.mark.parametrize("host", LOCAL)
def test_programs_and_pages_of_this_machine_are_answered(host: str) -> None:
    app = LocalOnly(Echo())
    assert ask(app, headers=[("host", host)]).status == 200
    for origin in LOCAL:
        headers = [("host", host), ("origin", f"http://{origin}")]
        assert ask(app, headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("host", "")],
        [("host", "evil.org")],
        [("host", "evil.org:8000")],
        [("host", "localhost.evil.org")],
        [("host", "127.0.0.1.evil.org")],
        [("host", "evil.org@localhost")],
        [("host", "localhost/evil")],
        [("host", "localhost#")],
        [("host", "http://localhost")],
        [("host", "localhost\\evil.org")],
        [("host", "192.168.1.5")],
        [("host", "0.0.0.0:8000")],
        [("host", b"local\xffhost")],
        [("host", "localhost"), ("host", "evil.org")],
        [("host", "localhost"), ("origin", "https://evil.org")],
        [("host", "localhost"), ("origin", "null")],
        [("host", "localhost"), ("origin", "file://")],
        [("host", "localhost"), ("origin", "http://localhost.evil.org:8000")],
        [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.org")],
    ],
)
def test_pages_of_other_sites_are_not(headers: list[tuple[str, str | bytes]]) -> None:
    app = Echo()
    answer = ask(LocalOnly(app), headers=headers)
    assert (answer.status, app.bodies) == (403, [])
    assert answer.error["code"] == "host_not_allowed"
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert ask(LocalOnly(app), headers=headers, kind="websocket").status == 403
