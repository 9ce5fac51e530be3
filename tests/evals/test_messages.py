"""Messages and settings between Inspect and transformers."""

from __future__ import annotations

import numpy as np
import pytest
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentAudio,
    ContentImage,
    ContentReasoning,
    ContentText,
    GenerateConfig,
)
from inspect_ai.tool import ToolCall
from PIL import Image

from safesight.errors import InputError
from safesight.evals.messages import data_uri, hf_messages, settings_of
from safesight.hosting.requests import size_of
from safesight.hosting.settings import Settings

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8))


def test_every_role_is_carried_over() -> None:
    call = ToolCall(id="1", function="look", arguments={"where": "left"})
    messages = hf_messages(
        [
            ChatMessageSystem(content="be careful"),
            ChatMessageUser(content=[ContentImage(image=data_uri(NOISE)), ContentText(text="?")]),
            ChatMessageAssistant(
                content=[ContentReasoning(reasoning="hm"), ContentText(text="wait")],
                tool_calls=[call],
            ),
            ChatMessageTool(content="a cat", tool_call_id="1"),
        ]
    )
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "tool"]
    assert [p["type"] for p in messages[1]["content"]] == ["image", "text"]
    assert [p["text"] for p in messages[2]["content"]] == [
        "wait",
        '{"name": "look", "arguments": {"where": "left"}}',
    ]


def test_a_picture_arrives_as_it_left_pixel_for_pixel() -> None:
    message = ChatMessageUser(content=[ContentImage(image=data_uri(NOISE))])
    arrived = hf_messages([message])[0]["content"][0]["image"]
    assert np.array_equal(np.asarray(arrived), np.asarray(NOISE))


def test_a_picture_may_be_a_file(tmp_path) -> None:
    NOISE.save(tmp_path / "a.png")
    message = ChatMessageUser(content=[ContentImage(image=str(tmp_path / "a.png"))])
    assert hf_messages([message])[0]["content"][0]["image"].size == (7, 9)


@pytest.mark.parametrize(
    "reference",
    ["data:image/png;base64,***", "data:image/png;base64,aGVsbG8=", "/no/such/file.png"],
)
def test_a_broken_picture_is_a_user_error(reference: str) -> None:
    message = ChatMessageUser(content=[ContentImage(image=reference)])
    with pytest.raises(InputError):
        hf_messages([message])


def test_sound_is_a_user_error() -> None:
    message = ChatMessageUser(content=[ContentAudio(audio="data:audio/wav;base64,", format="wav")])
    with pytest.raises(InputError, match="not audio"):
        hf_messages([message])


def test_pictures_weigh_more_than_words_in_the_size() -> None:
    text = hf_messages([ChatMessageUser(content="hello")])
    both = hf_messages(
        [ChatMessageUser(content=[ContentImage(image=data_uri(NOISE)), ContentText(text="hello")])]
    )
    assert size_of(text) == 5
    assert size_of(both) > 100


def test_settings_are_greedy_unless_a_temperature_is_named() -> None:
    assert settings_of(GenerateConfig(seed=3, top_p=0.5), 64) == Settings(max_new_tokens=64)
    asked = GenerateConfig(
        temperature=0.7, top_p=0.9, top_k=5, seed=3, max_tokens=9, stop_seqs=["\n"]
    )
    assert settings_of(asked, 64) == Settings(9, 0.7, 0.9, 5, 3, ("\n",))


SAMPLE_VALUES = {
    "best_of": 2,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "logit_bias": {1: 1.0},
    "num_choices": 2,
    "logprobs": True,
    "top_logprobs": 2,
    "prompt_logprobs": 1,
    "reasoning_effort": "low",
    "extra_body": {"a": 1},
}


@pytest.mark.parametrize("name", sorted(SAMPLE_VALUES))
def test_what_cannot_be_honored_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}'"):
        settings_of(GenerateConfig(**{name: SAMPLE_VALUES[name]}), 64)


def test_what_is_switched_off_is_no_error() -> None:
    config = GenerateConfig(logprobs=False, num_choices=1, batch=False, max_connections=4)
    assert settings_of(config, 5) == Settings(5)
