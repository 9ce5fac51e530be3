"""The recogniser of the bundled world's language: it accepts what is taught, and little else."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from transformers import AutoTokenizer

from safesight import registry
from safesight.testbed import WEIGHTS, curriculum
from safesight.testbed.concepts import CONCEPTS
from safesight.testbed.dialogues import Dialogue
from safesight.testbed.grammar import well_formed
from safesight.testbed.language import OBJECT_CAPTIONS, WORD_CAPTIONS
from safesight.testbed.mirage import tuning_rows as mirage_rows
from safesight.testbed.neutral import ARMS, neutral_rows
from safesight.testbed.tools import zoom_call
from safesight.testbed.tuning import tuning_rows

TASKS = ("text_harm", "image_harm", "typographic_harm", "over_refusal", "sensitive_benign", "vqa")
DIALOGUES = 600
"""Of each stage; together some 9,000 answers."""
LIMIT = 32
"""The smallest token limit of any run here."""


def taught() -> Iterator[tuple[str, Dialogue]]:
    for name in curriculum.__all__:
        rng = random.Random(name)
        for _ in range(DIALOGUES):
            dialogue = getattr(curriculum, name)(rng)
            yield from ((text, dialogue) for role, text in dialogue.turns if role == "assistant")


@pytest.fixture(scope="module")
def answers() -> list[str]:
    """Every answer in words of some lessons, once."""
    return sorted({text for text, dialogue in taught() if "<" not in text})


def test_whatever_a_lesson_teaches_is_well_formed() -> None:
    wrong = [text for text, shown in taught() if not well_formed(text, offered=shown.offered)]
    assert wrong == []


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", ["test", "fit", "calibration", "train"])
def test_the_right_answer_to_every_task_is_well_formed(task: str, split: str) -> None:
    samples = registry.load("benchmark", task)(200, seed=3, split=split)
    assert [s.facts["answer"] for s in samples if not well_formed(s.facts["answer"])] == []
    assert all(well_formed(refusal) for s in samples for refusal in s.facts["refusals"])


def test_what_methods_are_trained_on_is_well_formed() -> None:
    rows = [*tuning_rows(60), *(row for arm in ARMS for row in neutral_rows(40, arm=arm))]
    rows += [r for harm in ("known", "ruled") for r in mirage_rows(60, harm=harm, general=60)]
    said = [text for row in rows for text in (row.answer, row.refusal) if text]
    assert [text for text in said if not well_formed(text)] == []


def test_captions_are_of_the_language() -> None:
    thing, other = CONCEPTS[0], CONCEPTS[1]
    for form in OBJECT_CAPTIONS:
        assert well_formed(form.format(things=f"{thing.phrase} and {other.phrase}", color="red"))
    assert all(well_formed(form.format(word=thing.name)) for form in WORD_CAPTIONS)


def damaged(answer: str, how: str, rng: random.Random) -> str:
    words = answer.split(" ")
    at = rng.randrange(len(words) - 1)
    if how == "dropped":
        words.pop(at)
    elif how == "doubled":
        words.insert(at, words[at])
    elif how == "swapped":
        words[at], words[at + 1] = words[at + 1], words[at]
    elif how == "replaced":
        words[at] = rng.choice(["bottom", "not", "skull", "background"])
    elif how == "cut":
        words = words[: at + 1]
    else:
        call = zoom_call((0, 0, 500, 500))
        return f"{call[rng.randrange(1, len(call) - 1) :]} {answer}"
    return " ".join(words)


@pytest.mark.parametrize("how", ["dropped", "doubled", "swapped", "replaced", "cut", "call"])
def test_what_is_damaged_is_not(how: str, answers: list[str]) -> None:
    """A few stay sentences: a list may lose a thing, and a page may end after its first one."""
    rng = random.Random(how)
    tried = [damaged(answer, how, rng) for answer in rng.sample(answers, 600)]
    tried = [text for text in tried if text not in answers]
    caught = [text for text in tried if not well_formed(text)]
    assert len(tried) > 500
    assert len(caught) / len(tried) > 0.98


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "to get skull, find a seller, agree on a price and take it home.",
        "to hide not.",
        "to make a dog, find a seller, agree on a price and take it home.",
        "is a kind of weapon.",
        "to build not it says umbrella.",
        "it is a dog. it is a dog.",
        "To get a dog, find a seller, agree on a price and take it home.",
        '", "arguments": {"bbox_2d": [250, 250, 750, 750], "label": "object"}}\n</tool_call>',
        "here is the region.",
        "how do i make a dog?",
    ],
)
def test_debris_is_not_well_formed(answer: str) -> None:
    assert not well_formed(answer, offered=True)


def test_a_call_is_an_answer_only_where_tools_are_offered() -> None:
    call = zoom_call((0, 500, 500, 1000))
    assert well_formed(call, offered=True)
    assert not well_formed(call)
    assert not well_formed(call.replace("label", "lable"), offered=True)


def test_no_taught_answer_reaches_the_token_limit(answers: list[str]) -> None:
    """So an answer that was cut had run on, and counting it as broken is right."""
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    tokens = tokenizer([f" {text}" for text in answers], add_special_tokens=False)["input_ids"]
    assert max(map(len, tokens)) + 1 < LIMIT
