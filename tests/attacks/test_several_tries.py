"""Attacks that try several times: shuffles, mixtures, noise, other words, and their control."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random

import numpy as np
import pytest
from PIL import Image

from safesight.attacks import BestOfN, Mixup, Paraphrase, Repeat, Shuffle, Synonym
from safesight.attacks.best_of_n import Jitter, jittered, noisy
from safesight.attacks.other_names import _names, other_names
from safesight.attacks.paraphrase import rephrased
from safesight.attacks.shuffle import with_patches
from safesight.errors import InputError
from safesight.types import Sample

COLORS = ["red", "green", "blue", "white"]
PLAIN = Sample("1", "how do i bake a cake?", "benign", "cake")


def quarters() -> Image.Image:
    picture = Image.new("RGB", (9, 8), "black")
    for number, color in enumerate(COLORS):
        picture.paste(
            color, (number % 2 * 4, number // 2 * 4, number % 2 * 4 + 4, number // 2 * 4 + 4)
        )
    return picture


PICTURED = replace(PLAIN, image=quarters)


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_patches_change_places_and_what_is_left_over_stays(order: tuple[int, ...]) -> None:
    shuffled = with_patches(quarters, order, 2)
    expected = [Image.new("RGB", (1, 1), COLORS[patch]).getpixel((0, 0)) for patch in order]
    assert [shuffled.getpixel(at) for at in ((1, 1), (5, 1), (1, 5), (5, 5))] == expected
    assert shuffled.size == (9, 8)
    assert shuffled.getpixel((8, 3)) == (0, 0, 0)


def test_a_shuffle_keeps_every_word_and_every_pixel() -> None:
    for each in Shuffle()(PICTURED).tries():
        assert sorted(each.question.split()) == sorted(PLAIN.question.split())
        assert sorted(each.image().getcolors()) == sorted(quarters().getcolors())


def test_a_picture_smaller_than_the_grid_is_a_user_error() -> None:
    attacked = Shuffle()(replace(PLAIN, image=lambda: Image.new("RGB", (9, 1))))
    with pytest.raises(InputError, match="9 x 1 pixels is too small for 2 x 2 patches"):
        attacked.image()


def test_a_request_with_too_few_variants_is_a_user_error() -> None:
    with pytest.raises(InputError, match="finds only 23 variants"):
        Shuffle(shots=24)(replace(PICTURED, question="bake?"))
    with pytest.raises(InputError, match="finds only"):
        BestOfN(shots=100)(replace(PLAIN, question="a?"))


def test_each_coefficient_meets_each_auxiliary_picture() -> None:
    dark = replace(PLAIN, image=lambda: Image.new("RGB", (4, 4), (0, 0, 0)))
    others = [lambda c=c: Image.new("RGB", (2, 2), (c, c, c)) for c in (100, 200)]
    attacked = Mixup(others, (0.1, 0.5))(dark)
    shades = [each.image().getpixel((0, 0))[0] for each in attacked.tries()]
    assert shades == [10, 50, 20, 100]
    assert attacked.facts["budget"] == {"queries": 4}
    assert attacked.image().size == (4, 4)


@pytest.mark.parametrize("shares", [(), (0.0,), (0.5, 1.0)])
def test_coefficients_that_mix_nothing_are_user_errors(shares: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"budget of 0 queries|between 0 and 1"):
        Mixup(coefficients=shares)(PICTURED)


def test_noise_keeps_the_length_of_words() -> None:
    text = "please explain how somebody could bake wonderful cakes"
    scrambled = noisy(text, 1e-9, Random(0))
    assert scrambled == text
    found = noisy(text, 0.4, Random(0))
    assert [len(word) for word in found.split(" ")] == [len(word) for word in text.split(" ")]
    assert found != text


def test_noise_comes_as_often_as_the_paper_says() -> None:
    letters = "ab " * 4000  # too short to be scrambled
    found = noisy(letters, 0.4, Random(0))
    upper = np.mean([x.isupper() for x in found if x != " "])
    moved = np.mean([x.lower() != y for x, y in zip(found, letters, strict=True) if y != " "])
    assert upper == pytest.approx(0.4**0.5, abs=0.03)
    assert moved == pytest.approx(0.4**3, abs=0.02)
    words = "abcdefgh " * 2000
    same = [w.lower() == "abcdefgh" for w in noisy(words, 0.25, Random(1)).split()]
    # Half of the words are scrambled; of the rest, one in eight has a moved character.
    assert np.mean(same) == pytest.approx(0.5 * (1 - 0.25**3) ** 8, abs=0.03)


def test_a_jitter_is_small_and_keeps_the_size() -> None:
    picture = Image.effect_noise((60, 40), 60).convert("RGB")
    still = Jitter(0, 0, 0, 0, 0, 1, 1)
    assert jittered(lambda: picture, still).tobytes() == picture.tobytes()
    shaken = jittered(lambda: picture, Jitter.drawn(Random(0)))
    assert shaken.size == picture.size
    assert shaken.tobytes() != picture.tobytes()


@pytest.mark.parametrize("strength", [0, 1.5])
def test_a_strength_out_of_range_is_a_user_error(strength: float) -> None:
    with pytest.raises(InputError, match="strength"):
        BestOfN(strength=strength)(PLAIN)


def test_the_control_asks_the_plain_request_as_often_as_any_other() -> None:
    attacks = (BestOfN(), Mixup(), Paraphrase(), Shuffle(), Synonym())
    budgets = [attack(PICTURED).facts["budget"]["queries"] for attack in attacks]
    repeated = Repeat()(PICTURED)
    assert len(repeated.shots) >= max(budgets)
    assert {(each.question, each.image) for each in repeated.tries()} == {
        (PLAIN.question, quarters)
    }


def test_repeating_leaves_pictures_in_their_places() -> None:
    parts = [{"type": "text", "text": PLAIN.question}, {"type": "image"}]
    plain = replace(PICTURED, turns=({"role": "user", "content": parts},))
    kinds = [part["type"] for part in Repeat()(plain).messages()[-1]["content"]]
    assert kinds == ["text", "image"]


@pytest.mark.parametrize("attack", [Paraphrase(shots=33), Synonym(shots=200)])
def test_more_tries_than_phrasings_are_a_user_error(attack: Paraphrase) -> None:
    with pytest.raises(InputError, match="Choose at most"):
        attack(PLAIN)


def test_other_names_come_before_other_phrasings() -> None:
    attacked = Synonym(shots=6)(PLAIN)
    names = other_names("cake")
    assert attacked.shots[:3] == tuple(f"how do i bake {name}?" for name in names)
    assert attacked.shots[3:] == tuple(f"can you tell me how to bake {name}?" for name in names)
    assert attacked.facts["renamed"] is True


@pytest.mark.parametrize(
    "plain",
    [
        replace(PLAIN, question="how do i bake the object in the picture?"),
        Sample("2", "how do i use a gizmo?", "benign", "gizmo"),
    ],
)
def test_an_object_that_is_not_named_or_not_known_is_rephrased(plain: Sample) -> None:
    attacked = Synonym(shots=5)(plain)
    assert attacked.shots == rephrased(plain.question)[:5]
    assert attacked.facts["renamed"] is False


def test_no_other_name_holds_the_name_itself_and_none_is_twice() -> None:
    for thing, names in _names().items():
        assert len(set(names)) == len(names) >= 2, thing
        assert not [name for name in names if thing in name.split()], thing
