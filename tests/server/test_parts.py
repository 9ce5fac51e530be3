"""Parts of the server that no good client reaches: odd calls of a model, and arms that pile up."""

from __future__ import annotations

import json

import pytest

from safesight.server.completions import tool_calls
from safesight.server.conversation import texts_of
from tests.server.serving import Serving

TOOLS = [{"type": "function", "function": {"name": "zoom"}}]


@pytest.mark.parametrize(
    "written",
    [
        "[" * 5000,
        '{"name": ["zoom"]}',
        '{"name": {"zoom": 1}}',
        '{"name": "other"}',
        '{"arguments": {}}',
        '["zoom"]',
        "zoom",
        "",
    ],
)
def test_what_is_no_call_stays_text(written: str) -> None:
    assert tool_calls(f"<tool_call>{written}</tool_call>", TOOLS) == []


def test_calls_are_found_in_order() -> None:
    calls = [{"name": "zoom", "arguments": {"x": number}} for number in range(2)]
    text = "".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)
    found = tool_calls(f"first. {text}", TOOLS)
    assert [json.loads(call.function.arguments)["x"] for call in found] == [0, 1]
    assert found[0].id != found[1].id


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ('{"x": "a \\"b\\" c"}', {"x": 'a "b" c'}),
        ('"{\\"x\\": 1}"', {"x": 1}),
        ('""', {}),
        ("null", {}),
        ('"no json"', "no json"),
        ('"[1]"', "[1]"),
    ],
)
def test_arguments_are_encoded_once(written: str, wanted: object) -> None:
    """Some models write them as a text that is JSON already."""
    text = f'<tool_call>{{"name": "zoom", "arguments": {written}}}</tool_call>'
    (call,) = tool_calls(text, TOOLS)
    assert json.loads(call.function.arguments) == wanted


def test_only_what_reaches_the_model_counts_as_text() -> None:
    picture = {"type": "image_url", "image_url": {"url": "x" * 1000}}
    call = {"id": "1", "type": "function", "function": {"name": "zoom", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [picture, {"type": "text", "text": "one"}], "name": "me"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "two", "tool_call_id": "1"},
    ]
    assert texts_of(messages) == ["one", "zoom", "{}", "two"]


def test_no_request_makes_the_server_forget_its_own_defense(served: Serving) -> None:
    choices = served.choices
    default, guard = choices.default, choices.guard
    for number in range(1, 70):
        choices.chosen({"defense": "probe", "threshold": number / 100})
    assert len(choices._arms) <= 64
    assert choices.chosen(None) is choices.chosen({"defense": ["probe"]}) is default
    assert choices.guard is guard


def test_a_request_has_so_many_parts(served: Serving) -> None:
    parts = [{"type": "text", "text": "a"}] * 1001
    answer = served.post({"model": "testbed", "messages": [{"role": "user", "content": parts}]})
    assert answer.status_code == 400
    assert "1000 messages and parts" in answer.text
