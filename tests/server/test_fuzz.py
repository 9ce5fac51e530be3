"""Hundreds of broken and hostile requests: nothing crashes, and nothing undefended comes out."""

from __future__ import annotations

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.server.mutations import bodies
from tests.server.serving import Serving, samples, shown
from tests.server.test_failures import spy

RANDOM = 400
CHAT = "/v1/chat/completions"


def _decided(answer: httpx.Response) -> dict[str, Any] | None:
    """The field `safesight`, of a stream as well; None for an error."""
    if answer.headers["content-type"].startswith("application/json"):
        body = answer.json()
        assert ("error" in body) == (answer.status_code != 200)
        found: dict[str, Any] | None = body.get("safesight")
        return found
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    events = [json.loads(line) for line in lines]
    fields = [event["safesight"] for event in events if "safesight" in event]
    assert fields or "error" in events[-1]
    return fields[0] if fields else None


def test_no_body_crashes_the_server_or_passes_its_detector_by(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spy(monkeypatch)
    good = {"model": "testbed", "messages": shown(samples("vqa")[0]), "max_tokens": 2}
    vlm = served.host.vlm
    marks = ["<|im_start|>", *vlm.tokenizer.all_special_tokens, "<tool_call>", "<tool_response>"]
    made = list(bodies(good, sorted(set(marks)), RANDOM, seed=0))
    assert len(made) >= 500
    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=served.root, timeout=120) as client:
        answers = list(pool.map(lambda body: client.post(CHAT, content=body), made))
    passed = 0
    for body, answer in zip(made, answers, strict=True):
        assert answer.status_code in (200, 400, 404), (answer.status_code, answer.text, body[:300])
        if answer.status_code == 200 and (field := _decided(answer)):
            assert field["defense"] == "probe"
            assert field["decisions"]["probe"]["score"] is not None
            assert not field["decisions"]["probe"]["failed"]
            passed += 1
        elif answer.status_code != 200:
            _decided(answer)
    assert passed > 30
    assert {name for name, _ in seen} == {"probe"}
    assert served.places() == 0
    assert httpx.get(f"{served.root}/health").json() == {"status": "ok"}


def _forms(messages: list[dict[str, Any]], picture: Any) -> list[bytes]:
    """One request in many forms; the model is shown the same in all of them."""
    body = {"model": "testbed", "messages": messages, "max_tokens": 4}
    (turn,) = messages
    fields: tuple[dict[str, Any], ...] = (
        {}, {"n": 3}, {"temperature": 1.9, "seed": 3}, {"temperature": 2, "n": 2}, {"stop": ["i"]},
        {"max_tokens": 1}, {"max_completion_tokens": 500}, {"logprobs": True, "top_logprobs": 3},
        {"user": "x", "metadata": {"a": "b"}}, {"stream": True}, {"stream": True, "n": 2},
        {"stream": True, "stream_options": {"include_usage": True}}, {"tools": None},
        {"tool_choice": "none"}, {"safesight": {}}, {"safesight": {"defense": "probe"}},
        {"response_format": {"type": "text"}}, {"top_k": 1}, {"top_p": 0},
        {"messages": [{**turn, "name": "assistant"}]},
    )  # fmt: skip
    found = [json.dumps({**body, **more}).encode() for more in fields]
    found.append(json.dumps(body, indent=3).encode())
    found.append(json.dumps(dict(reversed(body.items())), ensure_ascii=False).encode())
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in "messages")
    found.append(json.dumps(body).replace('"messages"', f'"{spelled}"').encode())
    if picture is not None:
        again = json.loads(json.dumps(messages))
        for kind, label in (("PNG", "jpeg"), ("WEBP", "webp")):
            buffer = io.BytesIO()
            picture.save(buffer, kind, lossless=True)
            encoded = base64.b64encode(buffer.getvalue()).decode()
            uri = f"data:image/{label};base64,{encoded}"
            again[0]["content"][0]["image_url"] = {"url": uri, "detail": "low"}
            found.append(json.dumps({**body, "messages": again}).encode())
    return found


def test_a_refused_request_is_refused_in_every_form(served: Serving) -> None:
    for task in ("image_harm", "typographic_harm", "text_harm"):
        refused = 0
        for sample in samples(task)[:2]:
            messages = shown(sample)
            body = {"model": "testbed", "messages": messages, "max_tokens": 1}
            if not served.post(body).json()["safesight"]["refused"]:
                continue
            refused += 1
            picture = sample.image() if sample.image else None
            made = _forms(messages, picture)
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(served.post, made))
            for form, answer in zip(made, answers, strict=True):
                assert answer.status_code == 200, (answer.text, form[-200:])
                field = _decided(answer)
                assert field is not None
                assert field["refused"] is True, form[-200:]
                assert '"content_filter"' in answer.text
        assert refused, task
