"""The page over HTTP: what it says about itself, a question from end to end, and who gets in."""

from __future__ import annotations

import io
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from safesight.app.asking import Asker
from safesight.app.examples import examples_for
from safesight.app.forms import Forms
from safesight.app.serving import PASSWORD, is_local, password_for
from safesight.errors import InputError
from safesight.hosting.ports import listening
from tests.app.conftest import online

PIECES = ("ss-answer", "ss-gauge", "ss-maps", "ss-curve")


def config_of(site: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{site}/config").json()
    return found


def function(config: dict[str, Any], inputs: int) -> int:
    """The number of the first function of the page with so many inputs."""
    called = (each for each in config["dependencies"] if each["backend_fn"])
    return next(int(each["id"]) for each in called if len(each["inputs"]) == inputs)


def asked(site: str, *data: Any, **more: Any) -> list[dict[str, Any]]:
    """The messages of the queue about one question, or about whatever takes so many inputs."""
    session = "s"
    number = function(config_of(site), len(data))
    body = {"data": list(data), "fn_index": number, "session_hash": session, **more}
    httpx.post(f"{site}/gradio_api/queue/join", json=body).raise_for_status()
    found = []
    address = f"{site}/gradio_api/queue/data?session_hash={session}"
    with httpx.stream("GET", address, timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                found.append(json.loads(line.removeprefix("data:")))
            if found and found[-1]["msg"] == "close_stream":
                return found
    return found


def uploaded(site: str, data: bytes, name: str = "a.png") -> str:
    (path,) = httpx.post(f"{site}/gradio_api/upload", files={"files": (name, data)}).json()
    return str(path)


def gallery(*paths: str) -> list[dict[str, Any]]:
    meta = {"_type": "gradio.FileData"}
    return [{"image": {"path": path, "meta": meta}, "caption": None} for path in paths]


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def shown(messages: list[dict[str, Any]]) -> str:
    """What the page shows in the end."""
    return json.dumps([each.get("output") for each in messages])


def test_the_page_names_no_other_host(site: str) -> None:
    page = httpx.get(site).text
    # Tags about the page are for sites that link to it; a browser fetches none of them.
    page = re.sub(r"<meta\b[^>]*>", "", page)
    sources = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)|@import\s+([^;]*)", page)
    assert sources
    assert not [each for each in sources if re.search(r"//|gstatic|googleapis", "".join(each))]
    theme = httpx.get(f"{site}/theme.css").text
    assert "http" not in theme.replace("http://www.w3.org/2000/svg", "")
    config = config_of(site)
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert {each["api_visibility"] for each in config["dependencies"]} == {"private"}
    assert "googleapis" not in json.dumps(config)


def test_a_question_goes_from_upload_to_figures(site: str) -> None:
    example = examples_for("testbed")[0]
    path = uploaded(site, png(example.pictures[0]))
    messages = asked(site, gallery(path), example.question, ["sasa", "rai"])
    assert messages[-2]["msg"] == "process_completed"
    assert messages[-2]["success"] is True
    assert all(piece in shown(messages) for piece in PIECES)
    assert httpx.get(f"{site}/gradio_api/file={path}").content == png(example.pictures[0])


def test_an_example_keeps_its_pixels(site: str) -> None:
    example = examples_for("testbed")[0]
    messages = asked(site, event_data={"example": 0})
    (shown_picture,), question = messages[-2]["output"]["data"]
    data = httpx.get(f"{site}/gradio_api/file={shown_picture['image']['path']}").content
    assert question == example.question
    with Image.open(io.BytesIO(data)) as found:
        assert found.convert("RGB").tobytes() == example.pictures[0].convert("RGB").tobytes()


def test_nothing_leaves_the_machine(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[Any] = []
    connect = socket.socket.connect

    def noted(self: socket.socket, address: Any) -> None:
        reached.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    with online(asker) as site:
        assert "ss-answer" in shown(asked(site, [], "what is a cake?", ["sasa"]))
    assert reached
    assert {address[0] for address in reached} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda site: ([], " ", ["sasa"]), "There is no question yet."),
        (
            lambda site: (gallery(uploaded(site, b"no picture")), "what?", ["sasa"]),
            "is not in a readable format",
        ),
        (
            lambda site: (gallery(uploaded(site, png(Image.new("1", (20000, 4000))))), "a?", []),
            "which is too large",
        ),
    ],
)
def test_a_bad_question_is_a_sentence_on_the_page(site: str, data: Any, words: str) -> None:
    messages = asked(site, *data(site))
    assert words in shown(messages)
    assert "ss-error" in shown(messages)
    assert "Traceback" not in json.dumps(messages)


@pytest.mark.parametrize(
    ("data", "more"),
    [
        ([[], "what is a cake?", ["npo"]], {}),
        ([[], "what is a cake?", "sasa"], {}),
        ([[], "what is a cake?", [{}]], {}),
        ([{}, "what is a cake?", []], {}),
        ([[{"image": {"path": 1}}], "what is a cake?", []], {}),
        ([[{"image": None, "caption": None}], "what is a cake?", []], {}),
        ([[{"video": {}}], "what is a cake?", []], {}),
        ([[], {}, []], {}),
        ([[], "what is a cake?"], {}),
        ([[], "what is a cake?", []], {"fn_index": 999}),
        ([[], "what is a cake?", []], {"fn_index": "0"}),
        ([], {"event_data": {"example": 99}}),
        ([], {"event_data": None}),
        ({}, {}),
    ],
)
def test_what_the_page_would_not_send_is_refused_before_gradio_sees_it(
    site: str, capfd: pytest.CaptureFixture[str], data: Any, more: dict[str, Any]
) -> None:
    number = function(config_of(site), len(data) if len(data) != 2 else 3)
    body = {"data": data, "fn_index": number, "session_hash": "s", **more}
    answer = httpx.post(f"{site}/gradio_api/queue/join", json=body)
    assert answer.status_code == 400
    assert capfd.readouterr().err == ""


def test_a_file_that_is_gone_is_refused_before_gradio_sees_it(site: str) -> None:
    path = uploaded(site, png(Image.new("RGB", (8, 8))))
    Path(path).unlink()
    body = {
        "data": [gallery(path), "what?", []],
        "fn_index": function(config_of(site), 3),
        "session_hash": "s",
    }
    assert httpx.post(f"{site}/gradio_api/queue/join", json=body).status_code == 400


def test_a_long_question_is_not_cut_and_told_once(site: str) -> None:
    assert "4800 characters" in shown(asked(site, [], "a" * 4800, []))
    (question,) = (each for each in config_of(site)["components"] if each["type"] == "textbox")
    assert question["props"].get("max_length") is None
    answer = shown(asked(site, [], "a cup " * 600, ["sasa", "rai"]))
    assert "Shorten it." in answer
    assert "ss-card" not in answer


def test_ones_own_pictures_take_the_place_of_those_of_an_example(site: str) -> None:
    example = examples_for("testbed")[0].pictures[0]
    own = Image.new("RGB", (8, 8), "red")

    def kept(*pictures: Image.Image) -> int:
        paths = [uploaded(site, png(each)) for each in pictures]
        (value,) = asked(site, gallery(*paths))[-2]["output"]["data"]
        return len(value)

    assert [kept(example, own), kept(example), kept(own, own)] == [1, 1, 2]


def test_uploads_end_with_the_page(asker: Asker) -> None:
    before = os.environ.get("GRADIO_TEMP_DIR")
    with online(asker) as site:
        path = Path(uploaded(site, png(Image.new("RGB", (8, 8)))))
        assert path.is_file()
        assert path.stat().st_mode & 0o077 == 0 or path.parents[1].stat().st_mode & 0o077 == 0
    assert not path.exists()
    assert not path.parents[1].exists()
    assert os.environ.get("GRADIO_TEMP_DIR") == before


def test_a_password_is_asked_for(asker: Asker) -> None:
    with online(asker, password="correct horse") as site, httpx.Client(base_url=site) as visitor:
        closed = ("/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=s")
        body = {"data": [[], "what?", []], "session_hash": "s"}
        for address in closed:
            assert visitor.get(address).status_code == 401, address
        join = "/gradio_api/queue/join"
        tried = [visitor.post(join, json={**body, "fn_index": each}) for each in range(16)]
        assert {each.status_code for each in tried} == {400, 401}
        assert visitor.post("/gradio_api/upload", files={"files": b"a"}).status_code == 401
        wrong = {"username": "a", "password": "correct horses"}
        assert visitor.post("/login", data=wrong).status_code == 400
        right = {**wrong, "password": "correct horse"}
        assert visitor.post("/login", data=right).status_code == 200
        assert visitor.get("/config").status_code == 200


def test_only_this_machine_gets_in_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    with listening("localhost", 0) as near, listening("0.0.0.0", 0) as far:
        assert is_local(near)
        assert not is_local(far)
    assert password_for(True) is None
    with pytest.raises(InputError, match=f"Set a password in the environment variable {PASSWORD}"):
        password_for(False)
    monkeypatch.setenv(PASSWORD, "short")
    for local in (True, False):
        with pytest.raises(InputError, match="at least 8 characters"):
            password_for(local)
    monkeypatch.setenv(PASSWORD, "long enough")
    assert password_for(False) == password_for(True) == "long enough"


def test_a_picture_whose_name_is_too_long_for_a_file_is_none() -> None:
    forms = Forms({0: 3}, ["sasa"], examples=1)
    data = [{"caption": "", "image": {"path": "a" * 300}}]
    assert not forms.known({"fn_index": 0, "data": [data, "what is it?", ["sasa"]]})
