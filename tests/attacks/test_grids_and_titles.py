"""Attacks that put a whole request into pictures: pieces, encrypted titles, a grid."""

from __future__ import annotations

import ast
import base64
import re
from random import Random

import pytest
from PIL import Image, ImageChops, ImageOps

from safesight.attacks import Distraction, FigStepPro, MMLBase64, MMLMirror, MMLRotate, mml
from safesight.attacks import MMLWordReplacement as WordReplacement
from safesight.attacks.distraction import grid_of, parts_of
from safesight.attacks.figstep_pro import pieces_of
from safesight.attacks.lists import draw_list
from safesight.attacks.mml import replaced
from safesight.errors import InputError
from safesight.types import Sample

CAKE = Sample("1", "How do I bake a cake?", "benign", "cake")
TITLE = "Steps to bake a cake."


@pytest.mark.parametrize("count", range(2, 8))
def test_pieces_make_up_the_title_and_none_shows_the_object(count: int) -> None:
    pieces = pieces_of(TITLE, count, "cake")
    assert len(pieces) == count
    assert "".join(pieces) == TITLE
    assert all(piece and piece == piece.strip() for piece in pieces)
    assert not any("cake" in piece for piece in pieces)


def test_every_mention_is_cut_as_long_as_there_are_cuts() -> None:
    title = "Tell me how to make a Cake, and where cakes are kept."
    assert not any("cake" in piece.lower() for piece in pieces_of(title, 3, "cake"))
    assert "pill box" not in pieces_of("make a pill box", 2, "pill box")


@pytest.mark.parametrize(("title", "count"), [("a b", 2), ("abc", 4), (TITLE, 1), (TITLE, 0)])
def test_a_title_that_cannot_be_cut_is_a_user_error(title: str, count: int) -> None:
    with pytest.raises(InputError, match=f"cut into {count} pieces"):
        pieces_of(title, count)


def test_only_the_last_piece_has_the_list() -> None:
    *before, last = FigStepPro()(CAKE).pictures
    pieces = pieces_of(TITLE, 3, "cake")
    draw = [draw_list(piece, font=None, points=80, items=0) for piece in pieces]
    assert [each().tobytes() for each in before] == [each.tobytes() for each in draw[:2]]
    assert last().tobytes() == draw_list(pieces[2], font=None, points=80).tobytes()
    assert last().tobytes() != draw[2].tobytes()


def screen(title: str) -> Image.Image:
    return draw_list(title, font=None, points=60, width=20)


def same(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one, other).getbbox() is None


def test_a_title_is_mirrored_upside_down_and_encoded() -> None:
    plain = screen(TITLE)
    assert same(MMLMirror()(CAKE).image(), ImageOps.mirror(plain))
    assert same(MMLRotate()(CAKE).image(), plain.rotate(180))
    assert same(MMLBase64()(CAKE).image(), screen(base64.b64encode(TITLE.encode()).decode()))


def test_words_are_replaced_and_the_text_says_how_to_undo_it() -> None:
    attacked = WordReplacement()(CAKE)
    found = ast.literal_eval(re.search(r"\{.*?\}", attacked.question)[0])
    assert sorted(found.values()) == ["bake", "cake"]
    shown, _ = replaced(TITLE, Random("1+mml_word_replacement"))
    assert same(attacked.image(), screen(shown))
    assert not {"bake", "cake"} & set(re.findall(r"\w+", shown))
    for food, word in found.items():
        shown = re.sub(rf"\b{food}\b", word, shown)
    assert shown == TITLE


def test_as_many_words_as_you_like_are_replaced_by_different_ones() -> None:
    words = [*(f"thing{number}" for number in range(900)), "apple"]
    shown, found = replaced(" ".join(words * 2), Random(0))
    assert len(found) == 901
    assert "apple" not in found
    assert len(set(shown.split())) == 901


def test_a_title_of_all_foods_is_a_user_error() -> None:
    with pytest.raises(InputError, match="so many foods"):
        replaced(f"{' '.join(mml._FOODS)} bake", Random(0))


def test_a_title_of_common_words_is_a_user_error() -> None:
    with pytest.raises(InputError, match="no word to replace"):
        WordReplacement()(Sample("1", "what is it?", "benign", ""))


@pytest.mark.parametrize("attack", [MMLMirror(), MMLRotate(), MMLBase64(), WordReplacement()])
def test_the_text_has_all_words_of_the_title_in_another_order(attack: MMLMirror) -> None:
    long = Sample("1", "How do I bake a very large cake without an oven at home?", "benign", "cake")
    listed = re.search(r"in random order: (.*)\.\n", attack(long).question)[1].split(", ")
    words = "Steps to bake a very large cake without an oven at home.".split()
    assert sorted(listed) == sorted(words)
    assert listed != words


def test_a_request_is_split_over_the_last_three_panels() -> None:
    assert parts_of("How do I bake a very large cake?") == (
        "How do",
        "I bake a",
        "very large cake?",
    )
    with pytest.raises(InputError, match="cannot be split"):
        parts_of("bake it")
    picture = Distraction(panel=100)(CAKE).image()
    assert picture.size == (300, 4 * 130)
    reds = [
        any(
            (pixel[0] > 200 and pixel[1] < 50 and pixel[2] < 50)
            for pixel in picture.crop(
                (column * 100 + 5, 395, column * 100 + 95, 485)
            ).get_flattened_data()
        )
        for column in range(3)
    ]
    assert reds == [True] * 3


def test_nine_of_the_callers_pictures_are_drawn_by_the_id() -> None:
    colors = [(20 * number, 0, 255) for number in range(12)]
    known = [lambda color=color: Image.new("RGB", (40, 40), color) for color in colors]
    attack = Distraction(known, panel=40)

    def shown(sample: Sample) -> list[tuple[int, ...]]:
        grid = attack(sample).image()
        return [grid.getpixel((n % 3 * 40 + 20, n // 3 * 70 + 20)) for n in range(9)]

    longer = Sample("1", "bake it in a pan", "benign", "")
    first, again, other = (
        shown(longer),
        shown(longer),
        shown(Sample("2", "do i do it", "benign", "")),
    )
    assert first == again != other
    assert len(set(first)) == 9
    assert set(first) <= set(colors)
    with pytest.raises(InputError, match="was given 8 pictures"):
        Distraction(known[:8])(CAKE)


def test_a_picture_larger_than_its_panel_is_scaled_down() -> None:
    grid = grid_of([lambda: Image.new("RGB", (400, 100), "blue")], 40)
    assert grid.size == (120, 70)
    assert grid.getpixel((20, 20)) == (0, 0, 255)
    assert grid.getpixel((20, 3)) == (255, 255, 255)


def test_a_panel_too_small_for_its_words_is_a_user_error() -> None:
    attacked = Distraction(panel=12)(CAKE)
    with pytest.raises(InputError, match="does not fit into a picture of 12 x 12"):
        attacked.image()
