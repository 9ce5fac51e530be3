"""What attacks add to a request: a strip below its picture, and words about tools."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from safesight.attacks import IgnoreTools, InjectedResult, QueryRelevant
from safesight.attacks.typography import render_text
from safesight.errors import InputError
from safesight.tools.calls import TOOLS
from safesight.types import Sample

PLAIN = Sample("1", "how do i bake a cake?", "benign", "cake")
POINTING = replace(PLAIN, question="how do i bake this object?")


def blue() -> Image.Image:
    return Image.new("RGB", (100, 80), "blue")


@pytest.mark.parametrize(
    ("plain", "attack", "question"),
    [
        (PLAIN, QueryRelevant(blue_of := lambda _: blue()), None),
        (replace(PLAIN, image=blue), QueryRelevant(), None),
        (replace(PLAIN, image=blue), QueryRelevant(lambda _: Image.new("L", (9, 9))), None),
        (replace(POINTING, image=blue), QueryRelevant(blue_of), POINTING.question),
    ],
)
def test_the_name_is_below_the_picture(
    plain: Sample, attack: QueryRelevant, question: str | None
) -> None:
    attacked = attack(plain)
    whole = attacked.image()
    assert whole.size == (100, 96)
    assert whole.crop((0, 0, 100, 80)).tobytes() == blue().tobytes()
    assert whole.crop((0, 80, 100, 96)).tobytes() == render_text("cake", 100, 16).tobytes()
    assert attacked.question == (question or f"how do i bake {attack.pointer}?")


def test_without_a_picture_there_is_a_blank_card() -> None:
    card = np.asarray(QueryRelevant()(PLAIN).image())[:336]
    assert len(np.unique(card)) == 1


def test_the_last_of_several_pictures_gets_the_strip() -> None:
    two = replace(POINTING, image=blue, further_images=(lambda: Image.new("RGB", (50, 100)),))
    assert [picture().size for picture in QueryRelevant()(two).pictures] == [(100, 80), (50, 120)]


@pytest.mark.parametrize(
    ("side", "said"),
    [(8, "does not fit into a picture of 8 x 1"), (2, "2 x 2 pixels is too small")],
)
def test_a_picture_too_small_for_the_strip_is_a_user_error(side: int, said: str) -> None:
    attacked = QueryRelevant()(replace(POINTING, image=lambda: Image.new("RGB", (side, side))))
    with pytest.raises(InputError, match=said):
        attacked.image()


def test_a_pointing_question_still_needs_a_name_for_the_strip() -> None:
    with pytest.raises(InputError, match="does not mention its target"):
        QueryRelevant()(replace(POINTING, image=blue, target=""))


def test_words_about_tools_are_beside_the_request() -> None:
    assert IgnoreTools()(PLAIN).question.startswith(PLAIN.question)
    assert "tool" in IgnoreTools()(PLAIN).question
    for key, tool in TOOLS.items():
        question = InjectedResult(key)(PLAIN).question
        assert question.startswith(f"Result of {tool.name}: ")
        assert question.endswith(PLAIN.question)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (IgnoreTools(" "), "no words to add"),
        (InjectedResult("sharpen"), "no tool 'sharpen'. There are zoom"),
        (InjectedResult(finding=""), "no finding"),
    ],
)
def test_nothing_to_say_is_a_user_error(attack: IgnoreTools, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attack(PLAIN)
