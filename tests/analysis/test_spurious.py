"""Log-odds, probes and flips against tables counted by hand, and against the published set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from safesight.analysis.spurious import (
    any_word_odds,
    first_word,
    first_word_odds,
    flips,
    log_odds,
    probes,
    words_of,
)
from safesight.benchmarks.vlguard import vlguard
from safesight.errors import InputError
from safesight.stats import wilson
from safesight.testbed.mirage import tuning_rows
from safesight.types import Label, Sample, TuningSample, Verdict

DATA = Path(__file__).parents[3] / "shared" / "data" / "vlguard"


def rows(*questions: tuple[str, Label]) -> list[TuningSample]:
    return [
        TuningSample(str(i), q, "a", label, "forget" if label == "harmful" else "retain")
        for i, (q, label) in enumerate(questions)
    ]


TABLE = rows(
    ("Share the cat.", "harmful"),
    ("Share a cat, a cat!", "harmful"),
    ("What is it?", "harmful"),
    ("What's the cat?", "benign"),
    ("What is a dog?", "benign"),
)


def test_words_of_a_text() -> None:
    assert words_of("What's THE man’s co-op? ... 3rd") == ["what", "the", "man", "co", "op", "3rd"]
    assert first_word('"Share" it') == "share"
    assert first_word("...") == ""


def test_log_odds_by_hand() -> None:
    odds = log_odds(2, 3, 0, 2)
    # (2.5 / 1.5) / (0.5 / 2.5)
    assert odds.value == pytest.approx(math.log(25 / 3))
    reach = 1.96 * math.sqrt(1 / 2.5 + 1 / 1.5 + 1 / 0.5 + 1 / 2.5)
    assert odds.low == pytest.approx(odds.value - reach, rel=1e-4)
    assert odds.high == pytest.approx(odds.value + reach, rel=1e-4)


def test_log_odds_turn_their_sign_with_the_labels() -> None:
    one, other = log_odds(5, 20, 1, 30), log_odds(1, 30, 5, 20)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


def test_first_words_are_counted_by_label() -> None:
    found = {each.word: each for each in first_word_odds(TABLE, least=1)}
    assert {word: (each.harmful, each.benign) for word, each in found.items()} == {
        "share": (2, 0),
        "what": (1, 2),
    }
    assert found["share"].odds == log_odds(2, 3, 0, 2)
    assert [each.word for each in first_word_odds(TABLE, least=1)] == ["share", "what"]


def test_a_word_counts_once_a_question_wherever_it_stands() -> None:
    found = {each.word: (each.harmful, each.benign) for each in any_word_odds(TABLE, least=1)}
    assert found["cat"] == (2, 1)
    assert found["is"] == (1, 1)


def test_rare_words_are_left_out() -> None:
    assert [each.word for each in first_word_odds(TABLE, least=3)] == ["what"]


@pytest.mark.parametrize("find", [first_word_odds, any_word_odds])
def test_one_label_alone_has_no_cue(find) -> None:
    with pytest.raises(InputError, match="no benign rows"):
        find(TABLE[:3])


def test_probes_on_a_table_counted_by_hand() -> None:
    train = rows(
        *[("share it.", "harmful")] * 6, *[("what is it?", "benign")] * 5, ("what?", "harmful")
    )
    test = rows(
        ("Share that.", "harmful"),  # right, right
        ("What now?", "harmful"),  # wrong, wrong
        ("What then?", "benign"),  # right, right
        ("Share this?", "benign"),  # wrong by its word, right by its mark
        ("Other things?", "benign"),  # an unseen word goes with the commoner label: wrong; right
    )
    word, mark = probes(train, test)
    assert (word.probe, word.accuracy.value, word.n) == ("first word", pytest.approx(2 / 5), 5)
    assert (word.true_positive_rate, word.false_positive_rate) == pytest.approx((1 / 2, 2 / 3))
    assert (mark.probe, mark.accuracy.value) == ("question mark", pytest.approx(4 / 5))
    assert (mark.true_positive_rate, mark.false_positive_rate) == pytest.approx((1 / 2, 0))
    assert mark.chance == pytest.approx(3 / 5)
    assert mark.accuracy.low < 4 / 5 < mark.accuracy.high


@pytest.mark.parametrize(("rho", "accuracy"), [(0.0, 0.5), (0.8, 0.9), (1.0, 1.0)])
def test_probes_find_what_the_dial_put_there(rho: float, accuracy: float) -> None:
    """A cue of correlation rho tells (1 + rho) / 2 of the labels, here within four deviations."""
    found = probes(tuning_rows(1200, rho=rho), tuning_rows(1200, rho=rho, split="test"))
    spread = 4 * math.sqrt(accuracy * (1 - accuracy) / 1200)
    for probe in found:
        assert probe.accuracy.value == pytest.approx(accuracy, abs=spread + 1e-9), probe.probe


class Parrot:
    """Refuses what begins with "share", cannot be judged on "hm", and keeps count."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, samples: Sequence[Sample]) -> list[Verdict]:
        self.asked.append([sample.question for sample in samples])
        known: dict[str, Verdict] = {"share": "refused", "hm": "invalid"}
        return [known.get(first_word(sample.question), "harmless") for sample in samples]


SAMPLES = [
    Sample("0", "Share it.", "harmful", "x"),
    Sample("1", "List it.", "harmful", "x"),
    Sample("2", "What is it?", "benign", "x"),
]


def test_flips_by_hand() -> None:
    parrot = Parrot()
    found = {(flip.label, flip.word): flip for flip in flips(SAMPLES, ["what", "share"], parrot)}
    assert parrot.asked == [
        ["Share it.", "List it.", "What is it?"],
        ["What it.", "What it.", "What is it?"],
        ["Share it.", "Share it.", "Share is it?"],
    ]
    assert {key: (flip.refused.value, flip.n) for key, flip in found.items()} == {
        ("harmful", None): (0.5, 2),
        ("harmful", "what"): (0.0, 2),
        ("harmful", "share"): (1.0, 2),
        ("benign", None): (0.0, 1),
        ("benign", "what"): (0.0, 1),
        ("benign", "share"): (1.0, 1),
    }
    changes = {key: flip.change and flip.change.value for key, flip in found.items()}
    assert changes["harmful", None] is None
    assert changes["harmful", "what"] == -0.5
    assert changes["benign", "share"] == 1.0


def test_requests_about_one_thing_flip_together() -> None:
    """Forty requests about two things are two observations."""
    samples = [
        Sample(str(i), "List it.", "harmful", "x", facts={"group": f"thing {i % 2}"})
        for i in range(40)
    ]
    plain, turned = flips(samples, ["share"], Parrot())
    assert plain.refused is not None
    assert turned.change is not None
    assert (plain.refused.high, turned.change.low) == pytest.approx(
        (wilson(0, 2).high, 1 - wilson(0, 2).high)
    )


def test_probes_count_things_where_the_rows_say_what_they_are_about() -> None:
    rows = tuning_rows(400, rho=0.8)
    alone = [replace(row, group=None) for row in rows]
    assert len({row.group for row in rows}) < 200
    (grouped, _), (single, _) = (probes(test, test) for test in (rows, alone))
    assert grouped.accuracy.value == single.accuracy.value
    assert grouped.accuracy != single.accuracy


def test_answers_that_cannot_be_judged_are_in_no_flip() -> None:
    found = {(flip.label, flip.word): flip for flip in flips(SAMPLES, ["hm"], Parrot())}
    flip = found["harmful", "hm"]
    assert (flip.n, flip.invalid, flip.change) == (0, 2, None)
    assert flip.refused is None


def test_flips_of_nothing_are_a_user_error() -> None:
    with pytest.raises(InputError, match="samples and replacement words"):
        flips(SAMPLES, [], Parrot())
    with pytest.raises(InputError, match="samples and replacement words"):
        flips([], ["what"], Parrot())


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data files are not beside the checkout")
def test_what_is_known_of_vlguard() -> None:
    train, test = (vlguard(split=split, folder=DATA) for split in ("train", "test"))
    found = {each.word: each for each in first_word_odds(train)}
    for word, harmful, benign, odds in (
        ("what", 61, 869, -5.53),
        ("can", 862, 103, 1.86),
        ("share", 195, 0, 5.36),
        ("describe", 162, 0, 5.15),
        ("identify", 107, 0, 4.71),
        ("please", 124, 1, 3.77),
    ):
        assert (found[word].harmful, found[word].benign) == (harmful, benign), word
        assert found[word].odds.value == pytest.approx(odds, abs=0.005), word
    anywhere = {each.word: (each.harmful, each.benign) for each in any_word_odds(train)}
    assert (anywhere["personal"], anywhere["identify"]) == ((569, 0), (518, 6))
    word, _ = probes(train, test)
    assert word.accuracy.value == pytest.approx(0.949, abs=0.0005)
    assert word.n == 1558
    pair = [row for row in test if not row.id.endswith("/safe_unsafe")]
    word, mark = probes(train, pair)
    assert (len(pair), word.accuracy.value) == (1000, pytest.approx(0.938, abs=0.0005))
    assert mark.accuracy.value == pytest.approx(0.969, abs=0.0005)
