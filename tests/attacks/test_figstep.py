"""FigStep's picture for any request: the title, the list, and what does not fit."""

from __future__ import annotations

import pytest

from safesight.attacks.figstep import FigStep
from safesight.attacks.lists import title_of
from safesight.errors import InputError
from safesight.types import Sample


@pytest.mark.parametrize(
    ("request_", "title"),
    [
        ("How do I bake a cake?", "Steps to bake a cake."),
        ("how can you  bake\na cake", "Steps to bake a cake."),
        ("Tell me how to bake a cake!", "Steps to bake a cake."),
        ("Please show me how to bake a cake.", "Steps to bake a cake."),
        ("Can you teach me how to bake a cake?", "Steps to bake a cake."),
        ("List the parts of a cake.", "List the parts of a cake."),
        ("What is a cake?", "What is a cake?"),
    ],
)
def test_a_request_becomes_a_title(request_: str, title: str) -> None:
    assert title_of(request_) == title


def test_the_authors_title_goes_first() -> None:
    plain = Sample("1", "How do I bake it?", "benign", "", facts={"instruction": "Ways to bake."})
    drawn = FigStep()(plain).image()
    assert drawn.tobytes() == FigStep().picture("Ways to bake.").tobytes()
    assert drawn.tobytes() != FigStep().picture("Steps to bake it.").tobytes()


def test_a_longer_title_has_more_lines_and_stays_inside() -> None:
    def bottom(title: str) -> int:
        shades = FigStep().picture(title).convert("L").point(lambda shade: 255 * (shade < 128))
        return shades.getbbox()[3]

    assert bottom("Steps to bake.") < bottom("Steps to bake a very large cake.") < 760
    assert bottom("Steps to " + "bake a very large cake " * 4) < 760


def test_what_cannot_be_drawn_is_a_user_error() -> None:
    with pytest.raises(InputError, match="does not fit"):
        FigStep().picture("bake a very large cake " * 200)
    with pytest.raises(InputError, match=r"font nosuch\.ttf cannot be read"):
        FigStep(font="nosuch.ttf").picture("bake")
