"""Other questions about the same prompts equal the prompts one would have written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL.Image import Image

from safesight.errors import InputError
from safesight.generation.follow_ups import (
    ask,
    has_picture,
    in_words,
    introduced,
    questions_of,
    says_yes,
    with_pictures,
)
from safesight.models import VLM
from tests import tiny, zoo
from tests.generation.test_prompt_tokens import TEMPLATES, with_template

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


EVERYWHERE = (*tiny.FAMILIES, *zoo.FAMILIES)


def turn(role: str, *parts: str | Image) -> dict[str, Any]:
    placed = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image", "image": part}
        for part in parts
    ]
    return {"role": role, "content": placed}


SYSTEM, SAID = turn("system", "be kind"), turn("assistant", "a cat.")
SEEN, TALL = tiny.picture(3), tiny.picture(4, 32, 56)
MIXED = [
    [SYSTEM, turn("user", "look:", SEEN, TALL), SAID, turn("user", "first", TALL, "then?")],
    [turn("user", "one", SEEN, "two", TALL)],
    [turn("user", TALL, SEEN), SAID, turn("user", "and in words?")],
    tiny.ask("no picture"),
]
"""Pictures in several turns, between words and after them, side by side, and none."""


@pytest.mark.parametrize("family", EVERYWHERE)
def test_pictures_are_taken_out_of_every_turn_and_nothing_else(family: str) -> None:
    vlm = tiny.vlm(family)
    inputs = dict(vlm.encode(MIXED))
    blind = in_words(vlm, inputs, ["again?"] * 4, range(4))
    expected = [
        [SYSTEM, turn("user", "look:"), SAID, turn("user", "again?")],
        [turn("user", "again?")],
        [turn("user"), SAID, turn("user", "again?")],
        tiny.ask("again?"),
    ]
    same(blind, vlm.encode(expected))


@pytest.mark.parametrize("family", EVERYWHERE)
def test_words_among_pictures_give_way_to_a_new_question(family: str) -> None:
    vlm = tiny.vlm(family)
    inputs = dict(vlm.encode(MIXED))
    assert questions_of(vlm, inputs) == ["firstthen?", "onetwo", "and in words?", "no picture"]
    expected = [
        [*MIXED[0][:-1], turn("user", TALL, "new?")],
        [turn("user", SEEN, TALL, "new?")],
        [*MIXED[2][:-1], turn("user", "new?")],
        tiny.ask("new?"),
    ]
    # Idefics 2 writes a single marker between pictures that stand side by side.
    rows = [0, 2, 3] if family == "idefics2" else range(4)
    some = dict(vlm.encode([MIXED[row] for row in rows]))
    found = with_pictures(vlm, some, ["new?"] * len(rows))
    same(found, vlm.encode([expected[row] for row in rows]))


@pytest.mark.parametrize("family", EVERYWHERE)
def test_an_introduction_moves_nothing_and_repeats_nothing(family: str) -> None:
    vlm = tiny.vlm(family)
    expected = [
        [*MIXED[0][:-1], turn("user", "first", TALL, "be good. then?")],
        [turn("user", "one", SEEN, "two", TALL, "be good.")],
        [*MIXED[2][:-1], turn("user", "be good. and in words?")],
        tiny.ask("be good. no picture"),
    ]
    same(introduced(vlm, dict(vlm.encode(MIXED)), "be good."), vlm.encode(expected))


@pytest.mark.parametrize("merges", [False, True])
@pytest.mark.parametrize("template", TEMPLATES)
def test_any_template_loses_its_pictures(template: str, merges: bool) -> None:
    vlm = with_template(TEMPLATES[template], merges)
    rows = [row[-3:] for row in MIXED]
    blind = in_words(vlm, dict(vlm.encode(rows)), ["again?"] * 4, range(4))
    assert vlm.image_token_id not in blind["input_ids"]
    text = [[*row[:-1], turn("user", "again?")] for row in rows]
    wanted = [[turn(t["role"], *words(t)) for t in row] for row in text]
    found, expected = (
        vlm.tokenizer.batch_decode(i["input_ids"]) for i in (blind, vlm.encode(wanted))
    )
    assert ["".join(row.split()) for row in found] == ["".join(row.split()) for row in expected]


def words(message: dict[str, Any]) -> list[str]:
    return [part["text"] for part in message["content"] if part["type"] == "text"]


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
