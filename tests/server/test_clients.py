"""What the official client gets: whole, in pieces, with pictures and tools, and as it chooses."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import openai
import pytest

from safesight.testbed.tools import TOOLS
from tests.server.serving import Serving, samples, shown, url

HARMFUL, BENIGN = samples("image_harm"), samples("vqa")
REFUSED, ANSWERED = shown(HARMFUL[0]), shown(BENIGN[0])
UNDEFENDED = {"safesight": {"defense": ["none"]}}


def _streamed(pieces: list[Any], number: int = 0) -> tuple[str, str | None]:
    """The text of a choice, and why it ended."""
    own = [each for piece in pieces for each in piece.choices if each.index == number]
    return "".join(each.delta.content or "" for each in own), own[-1].finish_reason


def test_an_answer_is_that_of_the_model_with_its_defense(served: Serving) -> None:
    found = served.ask(ANSWERED)
    assert found.choices[0].message.content == served.expected(BENIGN[0].messages())
    assert found.choices[0].message.refusal is None
    assert found.choices[0].finish_reason in ("stop", "length")
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    decision = found.safesight["decisions"]["probe"]
    assert not decision["refused"]
    assert decision["score"] < decision["threshold"]


def test_a_refusal_says_that_it_is_one_and_who_refused(served: Serving) -> None:
    raw = served.client.chat.completions.with_raw_response.create(
        model="testbed", messages=REFUSED, max_tokens=24
    )
    found = raw.parse()
    choice = found.choices[0]
    assert choice.finish_reason == "content_filter"
    assert (
        choice.message.content == choice.message.refusal == served.expected(HARMFUL[0].messages())
    )
    assert found.safesight["refused"] is found.safesight["decisions"]["probe"]["refused"] is True
    assert raw.headers["x-safesight-defense"] == "probe"
    assert raw.headers["x-safesight-refused"] == "true"
    assert raw.headers["x-safesight-detector"] == "probe"


@pytest.mark.parametrize("messages", [REFUSED, ANSWERED], ids=["refused", "answered"])
def test_the_pieces_of_a_stream_are_the_whole_answer(served: Serving, messages: Any) -> None:
    whole = served.ask(messages)
    raw = served.client.chat.completions.with_raw_response.create(
        model="testbed",
        messages=messages,
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
    )
    pieces = list(raw.parse())
    choice = whole.choices[0]
    assert _streamed(pieces) == (choice.message.content, choice.finish_reason)
    assert pieces[-1].usage == whole.usage
    assert not pieces[-1].choices
    assert pieces[-2].safesight == whole.safesight
    assert raw.headers["x-safesight-refused"] == str(whole.safesight["refused"]).lower()
    if choice.message.refusal:
        told = [each.choices[0].delta.content for each in pieces[:-1]]
        assert [text for text in told if text] == [choice.message.refusal]
        assert pieces[-2].choices[0].delta.refusal == choice.message.refusal


def test_the_asynchronous_client_and_many_at_the_same_time(served: Serving) -> None:
    """Greedy answers do not depend on the batch they are written in."""
    chosen = [*HARMFUL[:4], *BENIGN[:4]]

    async def ask(sample: Any, client: openai.AsyncOpenAI, stream: bool) -> str:
        found = await client.chat.completions.create(
            model="testbed", messages=shown(sample), max_tokens=24, stream=stream
        )
        if not stream:
            return str(found.choices[0].message.content)
        return _streamed([piece async for piece in found])[0]

    async def everything() -> list[str]:
        address = f"{served.root}/v1"
        async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
            asked = [ask(sample, client, bool(n % 2)) for n, sample in enumerate(chosen)]
            return await asyncio.gather(*asked)

    assert asyncio.run(everything()) == [served.expected(each.messages()) for each in chosen]


def test_several_choices_stop_strings_and_seeds(served: Serving) -> None:
    sampled: dict[str, Any] = {"temperature": 1.5, "seed": 7, "n": 3, "extra_body": UNDEFENDED}
    first, second = (served.ask(ANSWERED, **sampled) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(set(texts)) > 1
    streamed = list(served.ask(ANSWERED, stream=True, **sampled))
    assert [_streamed(streamed, number)[0] for number in range(3)] == texts
    alone = served.ask(ANSWERED, **{**sampled, "n": 1, "seed": 9})
    assert alone.choices[0].message.content == texts[2]
    whole = served.ask(ANSWERED).choices[0].message.content
    word = whole.split()[1]
    for found in (
        served.ask(ANSWERED, stop=word).choices[0].message.content,
        _streamed(list(served.ask(ANSWERED, stop=[word, "never"], stream=True)))[0],
    ):
        assert found == whole[: whole.index(word)]


def test_log_probabilities(served: Serving) -> None:
    found = served.ask(ANSWERED, logprobs=True, top_logprobs=2, extra_body=UNDEFENDED)
    tokens = found.choices[0].logprobs.content
    assert len(tokens) == found.usage.completion_tokens
    spelled = bytes(byte for each in tokens for byte in each.bytes).decode()
    assert found.choices[0].message.content in spelled
    assert all(len(each.top_logprobs) == 2 for each in tokens)
    assert all(each.logprob == each.top_logprobs[0].logprob <= 0 for each in tokens)
    pieces = list(served.ask(ANSWERED, logprobs=True, stream=True, extra_body=UNDEFENDED))
    assert len(pieces[-1].choices[0].logprobs.content) == len(tokens)


def test_two_pictures_in_a_turn_and_in_several_turns(served: Serving) -> None:
    first, second = (sample.image() for sample in BENIGN[:2])  # type: ignore[misc]
    words = [{"type": "text", "text": BENIGN[0].question}]
    for turns in (
        [[first, second, *words]],
        [[first, *words], "a red cup.", [second, *words]],
    ):
        ours, theirs = [], []
        for number, turn in enumerate(turns):
            role = ("user", "assistant")[number % 2]
            parts = [{"type": "text", "text": turn}] if isinstance(turn, str) else turn
            is_text = [isinstance(part, dict) for part in parts]
            ours.append(
                {
                    "role": role,
                    "content": [
                        part if text else {"type": "image", "image": part}
                        for part, text in zip(parts, is_text, strict=True)
                    ],
                }
            )
            theirs.append(
                {
                    "role": role,
                    "content": [
                        part if text else {"type": "image_url", "image_url": {"url": url(part)}}
                        for part, text in zip(parts, is_text, strict=True)
                    ],
                }
            )
        assert served.ask(theirs).choices[0].message.content == served.expected(ours)


def test_a_request_may_choose_what_the_operator_allows(served: Serving) -> None:
    bare = served.ask(REFUSED, extra_body=UNDEFENDED)
    assert bare.choices[0].message.content == served.expected(HARMFUL[0].messages(), "none")
    assert bare.safesight == {"defense": "none", "refused": None, "decisions": {}}
    score = served.ask(ANSWERED).safesight["decisions"]["probe"]["score"]
    probability = 1 / (1 + math.exp(-score))
    strict = {"safesight": {"defense": ["probe"], "threshold": probability / 2}}
    found = served.ask(ANSWERED, extra_body=strict)
    assert found.choices[0].finish_reason == "content_filter"
    assert found.safesight["decisions"]["probe"]["threshold"] < score


@pytest.mark.parametrize(
    "field",
    [
        {"defense": ["sasa"]},
        {"defense": ["probe", "none"]},
        {"defense": 1},
        {"defense": ["none"], "threshold": 0.5},
        {"threshold": 1},
        {"treshold": 0.5},
        ["probe"],
    ],
    ids=str,
)
def test_a_request_may_choose_nothing_else(served: Serving, field: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        served.ask(ANSWERED, extra_body={"safesight": field})
    assert caught.value.code == "defense_refused"
    assert str(caught.value.param).startswith("safesight")


def test_models(served: Serving) -> None:
    assert [each.id for each in served.client.models.list()] == ["testbed"]
    assert served.client.models.retrieve("testbed").id == "testbed"
    for ask in (
        lambda: served.client.models.retrieve("gpt-4o"),
        lambda: served.ask(ANSWERED, model="gpt-4o"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            ask()
        assert caught.value.code == "model_not_found"


def test_a_call_of_a_tool_and_its_result(served: Serving) -> None:
    """A call comes back as one, streamed or not, and a turn with its result goes in."""
    found = None
    for sample in samples("vqa"):
        messages = [{"role": "system", "content": ""}, *shown(sample)]
        answer = served.ask(messages, tools=TOOLS, max_tokens=64, extra_body=UNDEFENDED)
        if answer.choices[0].finish_reason == "tool_calls":
            found = sample, messages, answer
            break
    assert found is not None, "the model called no tool"
    sample, messages, answer = found
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "image_zoom_in_tool"
    assert len(json.loads(call.function.arguments)["bbox_2d"]) == 4
    pieces = list(
        served.ask(messages, tools=TOOLS, max_tokens=64, stream=True, extra_body=UNDEFENDED)
    )
    streamed = [call for p in pieces for c in p.choices for call in c.delta.tool_calls or ()]
    assert [each.function.arguments for each in streamed] == [call.function.arguments]
    assert _streamed(pieces)[1] == "tool_calls"
    assert "<tool_call>" not in _streamed(pieces)[0]
    after = [
        *messages,
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "the region is red."},
    ]
    last = served.ask(after, tools=TOOLS, max_tokens=64)
    assert last.choices[0].message.content
    assert served.ask(messages, tools=TOOLS, tool_choice="none").choices[0].finish_reason != (
        "tool_calls"
    )


def test_a_gateway_gets_the_same_decision_without_an_answer(served: Serving) -> None:
    for sample in (*HARMFUL[:3], *BENIGN[:3]):
        uri = shown(sample)[0]["content"][0]["image_url"]["url"]
        body = {"input_type": "request", "texts": [sample.question], "images": [uri]}
        verdict = served.post(body, "/beta/litellm_basic_guardrail_api").json()["action"]
        refused = served.ask(shown(sample), max_tokens=1).safesight["refused"]
        assert verdict == ("BLOCKED" if refused else "NONE")
