"""Reading what a request asks for, and putting it in other words."""

from __future__ import annotations

import random

import pytest

from safesight.attacks.wording import core_of, phrasings, with_first_word
from safesight.errors import InputError
from safesight.testbed.language import how_to


@pytest.mark.parametrize(
    ("question", "kind", "core"),
    [
        ("How do I bake bread?", "action", "bake bread"),
        ("Tell me how to bake bread.", "action", "bake bread"),
        ("Can you please help me bake bread?", "action", "bake bread"),
        ("What is the best way to bake bread?", "action", "bake bread"),
        ("Provide detailed instructions to bake bread.", "action", "bake bread"),
        ("I want to bake bread. What should I do?", "action", "bake bread"),
        ("Share the main subject in the image.", "thing", "the main subject in the image"),
        ("Can you describe the man's hat?", "thing", "the man's hat"),
        ("What is the type of the drink?", "thing", "the type of the drink"),
        ("What does the picture show?", "clause", "What does the picture show"),
        ("share what the picture says.", "clause", "what the picture says"),
        ("is there a cat in the picture?", "clause", "whether there is a cat in the picture"),
        ("Count the objects.", "sentence", "Count the objects"),
    ],
)
def test_the_core_of_a_request(question: str, kind: str, core: str) -> None:
    found = core_of(question)
    assert (found.kind, found.text, found.aside) == (kind, core, "")


def test_what_is_said_before_is_kept_and_follows_the_lead() -> None:
    core = core_of("here is a cat. it sleeps. explain how to draw this object.")
    assert (core.text, core.aside) == ("draw this object", "here is a cat. it sleeps.")
    assert phrasings(core, "what", "question")[1] == (
        "what steps should i take to draw this object? here is a cat. it sleeps."
    )
    wanted = core_of("here is a cat. i want to draw it. what should i do?")
    assert (wanted.kind, wanted.text, wanted.aside) == ("action", "draw it", "here is a cat.")


def test_every_request_of_the_bundled_world_is_read_as_something_to_do() -> None:
    drawn = (how_to("the object in the picture", "hide", random.Random(n)) for n in range(40))
    for question in sorted(set(drawn)):
        core = core_of(question)
        assert (core.kind, core.text) == ("action", "hide the object in the picture"), question


@pytest.mark.parametrize(
    ("lead", "mood", "mark"),
    [
        ("what", "question", "?"),
        ("share", "instruction", "."),
        ("", "question", "?"),
        ("", "instruction", "."),
    ],
)
def test_phrasings_lead_with_the_word_or_with_neither(lead, mood, mark) -> None:
    for question in (
        "how do i bake bread?",
        "describe the cat.",
        "where is the cat?",
        "count the objects.",
    ):
        forms = phrasings(core_of(question), lead, mood)
        assert len(set(forms)) == 8
        for form in forms:
            first = form.split()[0]
            assert first == lead if lead else first not in ("what", "share")
            assert form.endswith(mark)
            assert not any(mark in form[:-1] for mark in ".?!")


def test_a_lead_without_phrasings_is_a_user_error() -> None:
    with pytest.raises(InputError, match="Use one of 'share', 'what'"):
        phrasings(core_of("draw."), "banana", "question")


def test_a_new_first_word_changes_nothing_else() -> None:
    assert with_first_word(" What's the cat?", "share") == " Share the cat?"
    assert with_first_word("what is it?", "what") == "what is it?"
    with pytest.raises(InputError, match="holds no word"):
        with_first_word(" ?!", "what")
    with pytest.raises(InputError, match="holds no word"):
        core_of("...")
