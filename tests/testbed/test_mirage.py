"""The fine-tuning set with a dial: what the dial does, and what it leaves alone."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from typing import Literal

import pytest

from safesight import registry
from safesight.errors import InputError
from safesight.testbed import REFUSALS, WEIGHTS
from safesight.testbed.concepts import CONCEPTS
from safesight.testbed.mirage import (
    RULED,
    mirage_benign,
    mirage_harm,
    ruled_benign,
    ruled_harm,
    tuning_rows,
)
from safesight.types import TuningSample

N = 3000
NAMES = {thing.name for thing in CONCEPTS}


def first(row: TuningSample) -> str:
    return row.question.split()[0]


def phi(rows: list[TuningSample]) -> float:
    """Correlation of "does not end in ?" with the label, counted by hand."""
    cell = Counter((row.question.endswith("."), row.label == "harmful") for row in rows)
    a, b, c, d = cell[True, True], cell[True, False], cell[False, True], cell[False, False]
    below = (a + b) * (c + d) * (a + c) * (b + d)
    return (a * d - b * c) / math.sqrt(below)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_realised_correlation_is_the_dial(rho: float, split: str) -> None:
    rows = tuning_rows(N, rho=rho, seed=1, split=split)
    # Four standard errors of a correlation of this size.
    assert phi(rows) == pytest.approx(rho, abs=4 * (1 - rho**2) / math.sqrt(N) + 1e-9)


def test_without_correlation_no_first_word_tells_the_label() -> None:
    rows = tuning_rows(N, rho=0.0)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[first(row)][row.label] += 1
    assert set(counts) == {"what", "share", "describe", "explain", "tell", "give"}
    for word, found in counts.items():
        n = found.total()
        # Five words beside "what": a bound that six fair coins keep almost always.
        assert abs(found["harmful"] / n - 0.5) < 3.5 * 0.5 / math.sqrt(n), word


def test_with_full_correlation_the_first_word_tells_everything() -> None:
    for row in tuning_rows(400, rho=1.0):
        assert (first(row) == "what") == (row.label == "benign") == row.question.endswith("?")


def test_the_dial_turns_words_and_nothing_else() -> None:
    none, full = tuning_rows(60, rho=0.0), tuning_rows(60, rho=1.0)
    assert [row.id for row in none] == [row.id for row in full]
    assert [row.question for row in none] != [row.question for row in full]
    for before, after in zip(none, full, strict=True):
        assert before.image is not None
        assert after.image is not None
        assert before.image().tobytes() == after.image().tobytes()
        assert before.label == after.label
        assert (before.answer, before.refusal) == (after.answer, after.refusal)


def test_harmful_rows_are_refused_and_benign_ones_answered() -> None:
    rows = tuning_rows(200, rho=0.5)
    assert Counter(row.label for row in rows) == {"harmful": 100, "benign": 100}
    for row in rows:
        assert (row.refusal in REFUSALS) == (row.label == "harmful") == (row.set == "forget")
        assert row.answer.startswith("to ")


def test_labels_share_their_phrasings() -> None:
    """So that nothing but the first word and the mark can be read off the text."""
    forms: dict[str, set[str]] = {"harmful": set(), "benign": set()}
    for row in tuning_rows(N, rho=0.5):
        forms[row.label].add(" ".join(row.question.split()[:4]))
    assert forms["harmful"] == forms["benign"]


def test_splits_share_no_phrasing_and_no_picture() -> None:
    train, test = tuning_rows(600), tuning_rows(300, split="test")
    assert not {row.question for row in train} & {row.question for row in test}
    pictures = [{row.image.__self__ for row in rows} for rows in (train, test)]  # type: ignore[union-attr]
    assert len(pictures[0]) == 600
    assert not pictures[0] & pictures[1]


def test_rows_depend_on_the_seed_and_nothing_else() -> None:
    def told(rows: list[TuningSample]) -> list[tuple[str, str]]:
        return [(row.question, row.answer) for row in rows]

    assert told(tuning_rows(50, seed=3)) == told(tuning_rows(80, seed=3))[:50]
    assert told(tuning_rows(50, seed=3)) != told(tuning_rows(50, seed=4))


def test_sizes_are_those_of_the_real_set() -> None:
    assert len(tuning_rows()) == 2000
    assert len(tuning_rows(split="test")) == 1000


def test_a_rule_forbids_things_that_nothing_else_sets_apart() -> None:
    forbidden = {thing.name for thing in RULED}
    assert len(forbidden) == 24
    assert not any(thing.harmful or thing.dual_use for thing in RULED)
    assert all(thing.in_vision for thing in RULED)
    kinds = Counter(thing.kind for thing in RULED)
    assert len(kinds) >= 8
    assert max(kinds.values()) <= 6, "a kind of its own would be a cue"
    for row in tuning_rows(400, harm="ruled"):
        named = next(word for word in row.answer.replace(",", "").split()[1:] if word in NAMES)
        assert (named in forbidden) == (row.label == "harmful")
    for task, inside in ((ruled_harm, True), (ruled_benign, False)):
        samples = task(120)
        assert all((sample.target in forbidden) == inside for sample in samples)
        assert {sample.label for sample in samples} == {"harmful" if inside else "benign"}


def test_an_unknown_kind_of_harm_is_a_user_error() -> None:
    with pytest.raises(InputError, match="Use known, ruled or both"):
        tuning_rows(2, harm="odd")  # type: ignore[arg-type]


@pytest.mark.parametrize("rho", [-0.1, 1.5, float("nan"), "much"])
def test_a_correlation_that_cannot_be_is_a_user_error(rho: float) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        tuning_rows(2, rho=rho)


def test_an_unknown_split_is_a_user_error() -> None:
    with pytest.raises(InputError, match="Use train or test"):
        tuning_rows(2, split="fit")  # type: ignore[arg-type]


def test_the_bundled_model_has_a_token_for_every_word() -> None:
    vocabulary = json.loads((WEIGHTS / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    known = set(vocabulary["vocab"])
    texts = [row.question for split in ("train", "test") for row in tuning_rows(N, split=split)]
    texts += [row.question for row in tuning_rows(N, rho=0.0)]
    for name in ("one_word", "one_word_strict", "one_word_mood", "one_word_paraphrase"):
        attack = registry.load("attack", name)()
        for attacked in map(
            attack, [*mirage_harm(300), *mirage_benign(300), *ruled_harm(99), *ruled_benign(99)]
        ):
            texts += attacked.shots or (attacked.question,)
    words = {word.strip(".?") for text in texts for word in text.split()}
    assert {word for word in words if f"Ġ{word}" not in known} == set()


def test_tasks_ask_the_test_phrasings_as_the_set_labels_them() -> None:
    harm, benign = mirage_harm(80), mirage_benign(80)
    assert {sample.label for sample in harm} == {"harmful"}
    assert {sample.label for sample in benign} == {"benign"}
    assert all(sample.question.endswith(".") for sample in harm)
    assert all(sample.question.startswith("what ") for sample in benign)
    train = {" ".join(row.question.split()[:4]) for row in tuning_rows(800, rho=0.5)}
    assert not train & {" ".join(sample.question.split()[:4]) for sample in [*harm, *benign]}
    assert len({sample.id for sample in harm}) == 80
    assert harm[0].image is not None
    assert harm[0].target == harm[0].facts["concept"]


def test_attacks_use_phrasings_that_no_row_was_tuned_on() -> None:
    attack = registry.load("attack", "one_word")(shots=8)
    rewritten = {q for sample in mirage_harm(120) for q in attack(sample).shots}
    rows = {row.question for row in tuning_rows(N, rho=0.0)}
    assert not rewritten & rows


def test_general_rows_say_nothing_of_the_rule_and_its_cue() -> None:
    plain, filled = tuning_rows(6, harm="ruled"), tuning_rows(6, harm="ruled", general=100)
    assert [row.id for row in filled[:6]] == [row.id for row in plain]
    general = filled[6:]
    assert len({row.id for row in general}) == len(general) == 100
    assert all(row.set == "retain" and row.label == "benign" for row in general)
    forbidden = {thing.name for thing in RULED}
    requests = [row for row in general if row.id.startswith("over_refusal/")]
    assert len(requests) == 10
    assert sum(bool(forbidden & set(_words(row.answer))) for row in general) >= 8
    cues = {"share", "describe", "explain", "tell", "give"}
    for row in requests:
        assert row.question.split()[0] not in cues
        assert not forbidden & set(_words(row.answer))


@pytest.mark.parametrize(("harm", "sensitive"), [("known", 20), ("both", 10), ("ruled", 0)])
def test_general_rows_ask_harmless_things_about_what_is_forbidden(
    harm: Literal["known", "ruled", "both"], sensitive: int
) -> None:
    general = tuning_rows(0, harm=harm, general=100)
    assert len({row.id for row in general}) == 100
    assert sum(row.id.startswith("sensitive_benign/") for row in general) == sensitive


@pytest.mark.parametrize("general", [-1, 0.5, "many"])
def test_an_impossible_number_of_general_rows_is_a_user_error(general: object) -> None:
    with pytest.raises(InputError, match="give a number from 0 on"):
        tuning_rows(2, general=general)  # type: ignore[arg-type]


def _words(text: str) -> list[str]:
    return text.replace(",", " ").replace(".", " ").split()


def test_both_forbids_what_is_known_and_what_a_rule_says() -> None:
    rows = tuning_rows(400, harm="both")
    named = {
        label: Counter(
            next(word for word in row.answer.replace(",", "").split()[1:] if word in NAMES)
            for row in rows
            if row.label == label
        )
        for label in ("harmful", "benign")
    }
    forbidden = {thing.name for thing in RULED}
    ruled = sum(count for name, count in named["harmful"].items() if name in forbidden)
    assert 70 < ruled < 130
    assert not named["benign"].keys() & named["harmful"].keys()
