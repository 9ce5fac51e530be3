"""Samples of several turns and pictures: asked, hashed, reworded and shown like others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from PIL import Image

from safesight.attacks import OneWord
from safesight.data.samples import Data
from safesight.evals.asking import conversation
from safesight.evals.messages import hf_messages
from safesight.evals.tasks import _hash
from safesight.fitting.data import FitData
from safesight.report.pictures import _side_by_side
from safesight.types import Message, Sample


def picture(color: str) -> Callable[[], Image.Image]:
    return partial(Image.new, "RGB", (6, 4), color)


def turn(role: str, *parts: str) -> Message:
    placed = [{"type": "image"} if p == "<image>" else {"type": "text", "text": p} for p in parts]
    return {"role": role, "content": placed}


def sample(**more: object) -> Sample:
    asked = turn("user", "<image>", "Describe how to make this.")
    turns = (turn("user", "look", "<image>"), turn("assistant", "a cup."), asked)
    fields = {"turns": turns, "image": picture("red"), "further_images": (picture("blue"),)}
    question = "Describe how to make this."
    return Sample("1", question, "harmful", "cup", system="be brief", **fields | more)  # type: ignore[arg-type]


def seen(messages: list[Message]) -> list[tuple[str, list[object]]]:
    return [
        (
            turn["role"],
            [
                p["text"] if p["type"] == "text" else p["image"].getpixel((0, 0))
                for p in turn["content"]
            ],
        )
        for turn in messages
    ]


@pytest.mark.parametrize("prefill", [None, "Sure,"])
def test_an_evaluation_asks_the_conversation_of_the_sample(prefill: str | None) -> None:
    one = sample(prefill=prefill)
    assert seen(hf_messages(conversation(one))) == seen(one.messages())
    assert len(one.messages()) == 4 + (prefill is not None)


def test_other_turns_and_other_pictures_are_other_samples() -> None:
    others = [
        sample(turns=()),
        sample(further_images=(picture("green"),)),
        sample(turns=(turn("user", "see"), *sample().turns[1:])),
        sample(prefill="Sure,"),
    ]
    hashes = [_hash("vqa", [each]) for each in (sample(), *others)]
    fits = [FitData([each], []).hash for each in (sample(), *others)]
    assert len(set(hashes)) == len(set(fits)) == 5
    files = [Data("x", [each]).hash for each in (sample(), *others)]
    assert len(set(files)) == 5


def test_a_reworded_question_keeps_earlier_turns_and_pictures() -> None:
    attacked = OneWord()(sample())
    said = seen(attacked.messages())
    assert said[:-1] == seen(sample().messages())[:-1]
    assert said[-1] == ("user", [(0, 0, 255), attacked.question])
    plain = seen(sample().without_pictures().messages())
    assert [parts for _, parts in plain] == [
        ["be brief"],
        ["look"],
        ["a cup."],
        ["Describe how to make this."],
    ]


def test_a_report_shows_all_pictures_in_a_row() -> None:
    sheet = _side_by_side(sample())
    assert [sheet.getpixel((x, 1)) for x in (1, 15)] == [(255, 0, 0), (0, 0, 255)]
