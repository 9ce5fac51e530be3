"""What a request may hold: fields and parts of messages, stop strings, and how long it may be."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from safesight.server.guardrail import PATH
from tests.server.serving import Serving, samples, shown

WORDS = [{"role": "user", "content": "what is in the picture?"}]
PICTURE = shown(samples("vqa")[0])[0]["content"][0]
HELLO = {"role": "assistant", "content": "hello."}


def refused(served: Serving, messages: Any, **fields: Any) -> dict[str, Any]:
    answer = served.post({"model": "testbed", "messages": messages, "max_tokens": 2, **fields})
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({**HELLO, "prefix": True}, "prefix"),
        ({**HELLO, "function_call": {"name": "a", "arguments": "{}"}}, "function_call"),
        ({**HELLO, "audio": {"id": "a"}}, "audio"),
        ({**WORDS[0], "weight": 0}, "weight"),
        ({"role": "user", "content": [{"type": "text", "text": "a", "bold": True}]}, "bold"),
        ({"role": "user", "content": [{**PICTURE, "crop": [0, 1]}]}, "crop"),
        (
            {"role": "user", "content": [{**PICTURE, "image_url": {"url": "x", "size": 1}}]},
            "size",
        ),
    ],
)
def test_a_field_of_a_message_that_is_not_served_is_refused(
    served: Serving, message: Any, field: str
) -> None:
    error = refused(served, [*WORDS, message, *WORDS])
    assert error["code"] == "unsupported_parameter"
    assert repr(field) in error["message"]
    assert "messages[1]" in error["param"]


def test_what_clients_echo_back_is_taken_and_changes_nothing(served: Serving) -> None:
    plain = [{"role": "user", "content": [PICTURE, {"type": "text", "text": "what is it?"}]}, HELLO]
    detailed = {**PICTURE, "image_url": {**PICTURE["image_url"], "detail": "low"}}
    echoed = [
        {
            "role": "user",
            "content": [detailed, {"type": "text", "text": "what is it?", "cache_control": {}}],
            "name": "me",
        },
        {
            **HELLO,
            "refusal": "no.",
            "annotations": [],
            "audio": None,
            "function_call": None,
            "prefix": False,
        },
    ]
    found = [served.ask([*each, *WORDS]).choices[0].message.content for each in (plain, echoed)]
    assert found[0] == found[1]


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool"])
def test_a_picture_belongs_to_a_user(served: Serving, role: str) -> None:
    more = {"tool_call_id": "1"} if role == "tool" else {}
    error = refused(served, [*WORDS, {"role": role, "content": [PICTURE], **more}, *WORDS])
    assert f"cannot stand in a {role} message" in error["message"]
    assert "pictures in user messages" in error["message"]


@pytest.mark.parametrize("stop", [["a" * 1001], ["a"] * 17, [""]])
def test_stop_strings_have_limits(served: Serving, stop: list[str]) -> None:
    assert refused(served, WORDS, stop=stop)["param"] == "stop"


@pytest.mark.parametrize("value", [-1, 0, 1, 7.5])
def test_a_threshold_out_of_range_is_told_the_range(served: Serving, value: float) -> None:
    error = refused(served, WORDS, safesight={"threshold": value})
    assert "above 0 and below 1" in error["message"]
    assert "batch_size" not in error["message"]


def words(served: Serving, tokens: int) -> list[dict[str, str]]:
    """A question whose prompt has about so many tokens."""
    one, two = (
        served.host.vlm.encode([[{"role": "user", "content": "a cup " * n}]])["input_ids"].shape[1]
        for n in (1, 2)
    )
    return [{"role": "user", "content": "a cup " * (1 + (tokens - one) // (two - one))}]


def test_an_answer_is_as_long_as_the_context_allows(served: Serving) -> None:
    """What clients send by default is often more than a small model has."""
    context = served.host.vlm.context_length
    assert context is not None
    asked = words(served, context - 20)
    for fields in ({"max_tokens": 4096, "n": 2}, {"max_tokens": None}):
        answer = served.ask(asked, extra_body={"safesight": {"defense": "none"}}, **fields)
        assert answer.usage.prompt_tokens >= context - 30
        each = answer.usage.completion_tokens / len(answer.choices)
        assert answer.usage.prompt_tokens + each <= context
    assert served.ask(WORDS, max_tokens=4096).choices[0].finish_reason == "stop"


@pytest.mark.parametrize("path", ["chat", "stream"])
def test_a_prompt_that_fills_the_context_is_an_error(served: Serving, path: str) -> None:
    context = served.host.vlm.context_length
    assert context is not None
    for length in (context + 20, 3 * context):
        with pytest.raises(openai.BadRequestError) as caught:
            served.ask(words(served, length), stream=path == "stream")
        assert caught.value.code == "context_length_exceeded"
        assert "Shorten" in caught.value.message
        assert "max_new_tokens" not in caught.value.message


def test_a_long_text_never_reaches_the_thread_that_generates(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, each choice would be encoded for seconds while everybody else waits."""
    text = ("what is a cup? " * 70_000)[:999_999]
    asked: list[Any] = []
    request = served.host.request
    monkeypatch.setattr(served.host, "request", lambda each: (asked.append(each), request(each))[1])
    begin = time.monotonic()
    error = refused(served, [{"role": "user", "content": text}], n=8)
    assert error["code"] == "context_length_exceeded"
    answer = served.post({"input_type": "request", "texts": [text]}, PATH)
    assert answer.json()["action"] == "BLOCKED"
    assert not asked
    assert time.monotonic() - begin < 5
    assert (
        "more than 1000000 characters"
        in refused(served, [{"role": "user", "content": "a" * 1_000_001}])["message"]
    )


def test_tools_count_as_text(served: Serving) -> None:
    tool = {"type": "function", "function": {"name": "zoom", "description": "a cup " * 2000}}
    assert refused(served, WORDS, tools=[tool])["code"] == "context_length_exceeded"
