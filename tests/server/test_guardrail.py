"""The guardrail endpoint: asked by LiteLLM's own class, and with bodies that it never sends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from safesight.errors import InputError, ModelError
from safesight.server.access import KeyCheck
from safesight.server.guardrail import PATH, Kind, Verdict, guardrail_router, response_to

KEY = "a-key-of-the-gateway"


class Recorded:
    """A judge that refuses what has a certain word, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], list[str], Kind]] = []
        self.rewrites: list[str] | None = None

    async def __call__(self, texts: list[str], images: list[str], kind: Kind) -> Verdict:
        self.asked.append((texts, images, kind))
        if "unreadable" in images:
            raise InputError("A picture is damaged. Use an intact copy.")
        if "breaks" in texts:
            raise ModelError("The detector has no layer 9.")
        return Verdict("forbidden" in " ".join(texts), "sasa refused it.", self.rewrites)


def transport(judge: Recorded, keys: Sequence[str] = ()) -> httpx.ASGITransport:
    app = FastAPI()
    app.include_router(guardrail_router(judge))
    return httpx.ASGITransport(app=KeyCheck(app, keys) if keys else app)


def post(judge: Recorded, **request: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport(judge), base_url="http://test") as client:
            return await client.post(PATH, **request)

    return asyncio.run(run())


def verdict(judge: Recorded, **fields: Any) -> dict[str, Any]:
    answer = post(judge, json={"input_type": "request", "request_data": {}, **fields})
    assert answer.status_code == 200
    return dict(answer.json())


NONE = {"action": "NONE"}


def test_texts_and_pictures_are_judged_together() -> None:
    judge = Recorded()
    assert verdict(judge, texts=["one", "two"], images=["data:image/png;base64,aa"]) == NONE
    assert verdict(judge, texts=["a forbidden", "word"], input_type="response") == {
        "action": "BLOCKED",
        "blocked_reason": "sasa refused it.",
    }
    assert judge.asked == [
        (["one", "two"], ["data:image/png;base64,aa"], "request"),
        (["a forbidden", "word"], [], "response"),
    ]


def test_arguments_of_tool_calls_are_judged() -> None:
    judge = Recorded()
    calls = [
        {"id": "1", "function": {"name": "f", "arguments": '{"x": "forbidden"}'}},
        {"function": {"arguments": {"x": 1}}},
        {"custom": "forbidden"},
    ]
    assert verdict(judge, texts=[], tool_calls=calls)["action"] == "BLOCKED"
    assert judge.asked[0][0] == ['{"x": "forbidden"}', str(calls[1]), str(calls[2])]


def test_rewritten_texts_go_back_one_for_one() -> None:
    judge = Recorded()
    judge.rewrites = ["ONE", "TWO", "{}"]
    calls = [{"function": {"arguments": "{}"}}]
    assert verdict(judge, texts=["one", "two"], tool_calls=calls) == {
        "action": "GUARDRAIL_INTERVENED",
        "texts": ["ONE", "TWO"],
    }
    assert response_to(Verdict(True, texts=["x"])).action == "BLOCKED"


def message(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


TEXT = {"type": "text", "text": "one"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}}


def test_parts_that_are_judged_pass() -> None:
    judge = Recorded()
    messages = [message(TEXT, PICTURE), {"role": "user", "content": "one"}, {"role": "assistant"}]
    assert verdict(judge, texts=["one"], structured_messages=messages) == NONE


@pytest.mark.parametrize(
    "fields",
    [
        {"texts": ["one"], "images": ["unreadable"]},
        {"texts": ["breaks"]},
        {"texts": ["one"], "structured_messages": [message(TEXT, {"type": "input_audio"})]},
        {"texts": ["one"], "structured_messages": [message({"type": "file"})]},
        {"texts": ["one"], "structured_messages": [message({"type": "video_url"})]},
        {"texts": ["one"], "structured_messages": [message("a bare text")]},
        {"texts": ["one"], "structured_messages": [message({"no": "type"})]},
        {"texts": ["one"], "structured_messages": [message({"type": ["text"]})]},
        {"texts": [], "structured_messages": [message()]},
    ],
    ids=range(9),
)
def test_what_cannot_be_judged_is_blocked(fields: dict[str, Any]) -> None:
    found = verdict(Recorded(), **fields)
    assert found["action"] == "BLOCKED"
    assert found["blocked_reason"].startswith("The request ")


def test_nothing_is_harmless() -> None:
    judge = Recorded()
    assert verdict(judge) == verdict(judge, texts=None, images=[]) == NONE
    assert judge.asked == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"input_type": "other"}',
        b'{"input_type": "request", "texts": "one"}',
        b'{"input_type": "request", "texts": [1]}',
        b'{"input_type": "request", "texts": [null]}',
        b'{"input_type": "request", "images": {"a": "b"}}',
        b'{"input_type": "request", "tool_calls": ["x"]}',
        b'{"input_type": "request", "texts": ["\\ud800"]}',
        b'{"input_type": "request", "texts": ["harmless"], "texts": ["forbidden"]}',
        b"\xff\xfe",
    ],
)
def test_a_malformed_body_is_an_error_in_openai_form(content: bytes) -> None:
    judge = Recorded()
    answer = post(judge, content=content)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert judge.asked == []


def test_the_schema_is_in_the_openapi_document() -> None:
    app = FastAPI()
    app.include_router(guardrail_router(Recorded()))
    schema = app.openapi()["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]
    assert "input_type" in schema["schema"]["required"]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Any:
    """LiteLLM's own client of the API, and the handler that fills it from a chat request."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or its import asks the network
    pytest.importorskip("litellm")
    from litellm.llms.openai.chat.guardrail_translation.handler import OpenAIChatCompletionsHandler
    from litellm.proxy.guardrails.guardrail_hooks.generic_guardrail_api import GenericGuardrailAPI

    judge = Recorded()
    client = GenericGuardrailAPI(
        api_base="http://test", api_key=KEY, guardrail_name="safesight", event_hook="pre_call"
    )
    served = httpx.AsyncClient(transport=transport(judge, keys=[KEY]))
    monkeypatch.setattr(client.async_handler, "client", served)

    def ask(messages: list[dict[str, Any]]) -> dict[str, Any]:
        handler = OpenAIChatCompletionsHandler()
        data = {"messages": messages, "model": "any"}
        return dict(asyncio.run(handler.process_input_messages(data, client)))

    return ask, judge


def test_litellm_lets_through_what_passes(gateway: Any) -> None:
    ask, judge = gateway
    messages = [{"role": "system", "content": "Be kind."}, message(TEXT, PICTURE)]
    assert ask(messages)["messages"] == messages
    assert judge.asked == [(["Be kind.", "one"], ["data:image/png;base64,aa"], "request")]


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([message({"type": "text", "text": "forbidden"})], "sasa refused it."),
        ([message(TEXT, {"type": "image_url", "image_url": "unreadable"})], "could not be judged"),
        (
            [message(TEXT, {"type": "file", "file": {"file_data": "data:a/b;base64,aa"}})],
            "neither text nor picture",
        ),
    ],
    ids=["refused", "unreadable", "file"],
)
def test_litellm_blocks_what_does_not(gateway: Any, messages: Any, why: str) -> None:
    from litellm.exceptions import GuardrailRaisedException

    ask, _ = gateway
    with pytest.raises(GuardrailRaisedException, match=why):
        ask(messages)
