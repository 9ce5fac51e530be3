"""Other questions about the same prompts equal the prompts one would have written."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from safesight.errors import InputError
from safesight.generation.follow_ups import (
    ask,
    has_picture,
    in_words,
    questions_of,
    says_yes,
    with_pictures,
)
from safesight.models import VLM
from tests import tiny

FAMILIES = tiny.FAMILIES
NEW = ["is it safe?\nsay yes or no:", "something much shorter"]


def conversation(text: str, picture: bool, history: bool = False) -> list[dict[str, Any]]:
    before = []
    if history:
        before = [
            {"role": "system", "content": [{"type": "text", "text": "be kind"}]},
            *tiny.ask("hello"),
            {"role": "assistant", "content": [{"type": "text", "text": "hi"}]},
        ]
    pictures = [tiny.picture(3)] if picture else []
    return [*before, *tiny.ask(text, *pictures)]


def same(found: dict[str, Any], expected: Any) -> None:
    for name, value in expected.items():
        assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(value)), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("history", [False, True])
def test_prompts_equal_written_ones(family: str, history: bool) -> None:
    vlm = tiny.vlm(family)
    rows = [("how to make it?", True), ("tell me more about a longer thing.", False)]
    inputs = dict(vlm.encode([conversation(q, p, history) for q, p in rows]))
    assert questions_of(vlm, inputs) == [q for q, _ in rows]
    assert has_picture(vlm, inputs).tolist() == [True, False]
    expected = [conversation(new, p, history) for new, (_, p) in zip(NEW, rows, strict=True)]
    same(with_pictures(vlm, inputs, NEW), vlm.encode(expected))
    blind = in_words(vlm, inputs, NEW[::-1], [1, 0])
    same(blind, vlm.encode([conversation(new, False, history) for new in NEW[::-1]]))
    pictures = inputs.keys() - {"input_ids", "attention_mask", "token_type_ids"}
    assert not blind.keys() & (pictures - {"mm_token_type_ids"})


def test_an_earlier_picture_is_left_behind() -> None:
    vlm = tiny.vlm("llava")
    said = {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]}
    inputs = dict(vlm.encode([[*conversation("what is it?", True), said, *tiny.ask("sure?")]]))
    assert questions_of(vlm, inputs) == ["sure?"]
    same(in_words(vlm, inputs, ["again?"], [0]), vlm.encode([tiny.ask("again?")]))


def test_settings_stay_and_lengths_follow() -> None:
    vlm = tiny.vlm("llava")
    prompt = vlm.encode([tiny.ask("hi")])
    inputs = {**prompt, "do_sample": False, "max_length": prompt["input_ids"].shape[1] + 5}
    for found in (with_pictures(vlm, inputs, NEW[:1]), in_words(vlm, inputs, NEW[:1], [0])):
        assert found["do_sample"] is False
        assert found["max_length"] == found["input_ids"].shape[1] + 5


def test_short_answers_are_greedy_and_ignore_the_calls_settings() -> None:
    vlm = tiny.vlm("llava")
    prompt = dict(vlm.encode([tiny.ask("hi"), tiny.ask("hello there", tiny.picture())]))
    expected = vlm.decode(vlm.generate(prompt, max_new_tokens=3), prompt["input_ids"].shape[1])
    call = {**prompt, "do_sample": True, "max_new_tokens": 99, "return_dict_in_generate": True}
    assert ask(vlm.model.generate, vlm, call, 3) == expected


def test_rows_that_are_not_by_the_template_are_refused() -> None:
    vlm: VLM = tiny.vlm("llava")
    inputs = {"input_ids": torch.tensor([[5, 6, 7]])}
    with pytest.raises(InputError, match="template"):
        questions_of(vlm, inputs)
    with pytest.raises(InputError, match="input_ids"):
        questions_of(vlm, {"inputs_embeds": torch.zeros(1, 2, 3)})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("yes", True),
        ("Yes.", True),
        ("YES, because", True),
        ("**Yes**", True),
        ("no", False),
        ("No: it is a cake", False),
        ("not at all", None),
        ("eyes", None),
        ("it is, yes", None),
        ("", None),
    ],
)
def test_yes_and_no(answer: str, expected: bool | None) -> None:
    assert says_yes(answer) is expected
