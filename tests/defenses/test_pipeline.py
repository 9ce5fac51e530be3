"""A protected model in a pipeline of transformers answers as it does in `generate`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import transformers as hf

from safesight import VLM, load_benchmark, protect
from safesight.types import Messages

LENGTH = 12
CHATS: list[Messages] = [
    *(sample.messages() for sample in load_benchmark("image_harm")(3)[::2]),
    *(sample.messages() for sample in load_benchmark("vqa")(2)),
    *(sample.messages() for sample in load_benchmark("text_harm")(1)),
    [{"role": "user", "content": [{"type": "text", "text": "what is a cup?"}]}],
]


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return VLM.load("testbed", device="cpu")


@pytest.fixture(scope="module")
def plain(vlm: VLM) -> list[str]:
    return vlm.answer(CHATS, max_new_tokens=LENGTH)


# One of every kind: none, a detector, a rewritten prompt, an activation edit, other weights.
@pytest.fixture(params=["none", "sasa", "safety_prompt", "rai", "npo"], scope="module")
def arm(vlm: VLM, plain: list[str], request: Any) -> Iterator[tuple[str, list[str], Any]]:
    """A defense, the answers to expect, and a pipeline that knows nothing of it."""
    ask = hf.pipeline("image-text-to-text", model=vlm.model, processor=vlm.processor)
    with protect(vlm.model, vlm.processor, request.param):
        yield request.param, vlm.answer(CHATS, max_new_tokens=LENGTH), ask
    assert vlm.answer(CHATS, max_new_tokens=LENGTH) == plain


def answers(ask: Any, **given: Any) -> list[str]:
    found = ask(max_new_tokens=LENGTH, return_full_text=False, **given)
    rows = [row[0] if isinstance(row, list) else row for row in found]
    return [row["generated_text"].strip() for row in rows]


def test_off_is_plain_and_a_detector_is_not(arm: Any, plain: list[str]) -> None:
    name, expected, _ = arm
    if name in ("none", "sasa"):
        assert (expected == plain) is (name == "none")


@pytest.mark.parametrize("index", [2, 5], ids=["picture", "text"])
def test_one_chat(arm: Any, index: int) -> None:
    _, expected, ask = arm
    assert answers(ask, text=CHATS[index]) == [expected[index]]


def test_a_batch_of_chats(arm: Any) -> None:
    """With pictures or without: transformers puts no mixture of both into a batch."""
    _, expected, ask = arm
    assert answers(ask, text=CHATS[:4], batch_size=3) == expected[:4]
    assert answers(ask, text=CHATS[4:], batch_size=2) == expected[4:]


def test_the_conversation_comes_back_with_the_answer(arm: Any) -> None:
    _, expected, ask = arm
    turns = ask(text=CHATS[0], max_new_tokens=LENGTH)[0]["generated_text"]
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    assert turns[1]["content"].strip() == expected[0]


def test_pictures_beside_prompts(arm: Any, vlm: VLM) -> None:
    _, expected, ask = arm
    pictures = [chat[0]["content"][0]["image"] for chat in CHATS[:4]]
    template = vlm.processor.apply_chat_template
    prompts = [template(chat, add_generation_prompt=True, tokenize=False) for chat in CHATS[:4]]
    assert answers(ask, images=pictures, text=prompts, batch_size=2) == expected[:4]
