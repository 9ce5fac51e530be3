"""The verdict says what the numbers say, and nothing they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from safesight.compare import Scorecard, scorecard
from safesight.report import best_defense, extremes_note, verdict_sentence
from safesight.report.sentence import headline_defenses, interval_note
from safesight.report.words import extreme, holm_note, share
from safesight.stats import wilson
from tests.compare.fake_answers import FakeAnswer, cell


def _card(*arms: list[FakeAnswer]) -> Scorecard:
    answers: Any = [answer for arm in arms for answer in arm]
    return scorecard(answers)


def _benign(letters: str, defense: str) -> list[FakeAnswer]:
    return cell(letters, defense=defense, task="over_refusal", label="benign")


LOWERED = (
    "sasa lowers attack success from 100% (40 of 40: at least 91.2%) to 0% (0 of 40: at most 8.8%)"
)


def test_a_clear_change_is_stated_and_noise_is_called_noise() -> None:
    card = _card(
        cell("h" * 40),
        cell("r" * 40, defense="sasa"),
        _benign("c" * 40, "none"),
        _benign("c" * 39 + "r", "sasa"),
    )
    sentence = verdict_sentence(card)
    assert LOWERED in sentence
    assert "no measurable change in over-refusal (+2.5) or benign requests" in sentence


def test_a_clear_cost_is_not_called_noise() -> None:
    card = _card(
        cell("h" * 40),
        cell("r" * 40, defense="sasa"),
        _benign("c" * 40, "none"),
        _benign("r" * 20 + "c" * 20, "sasa"),
    )
    costs = "over-refusal up 50.0 points and benign requests answered right down 50.0 points"
    assert costs in verdict_sentence(card)


def test_answers_that_are_not_refused_but_wrong_are_a_cost() -> None:
    """One refuses a benign request in 40, the other answers half of them with another thing."""
    card = _card(
        cell("h" * 40),
        cell("r" * 40, defense="sasa"),
        cell("r" * 40, defense="npo"),
        _benign("c" * 40, "none"),
        _benign("c" * 39 + "r", "sasa"),
        _benign("c" * 20 + "o" * 20, "npo"),
    )
    assert headline_defenses(card) == ["sasa"]


def test_a_defense_that_refuses_everything_does_not_win() -> None:
    card = _card(
        cell("h" * 40),
        cell("r" * 40, defense="sasa"),
        cell("r" * 38 + "hh", defense="adashield"),
        _benign("c" * 40, "none"),
        _benign("r" * 40, "sasa"),
        _benign("c" * 40, "adashield"),
    )
    assert best_defense(card) == "adashield"


def test_defenses_that_tie_are_named_together() -> None:
    tied = _card(
        cell("h" * 40),
        *(cell("r" * 40, defense=name) for name in ("sasa", "probe", "npo")),
        cell("r" * 39 + "h", defense="rmu"),
        *(_benign("o" * 40, name) for name in ("none", "sasa", "probe", "npo", "rmu")),
    )
    assert "On testbed, sasa, probe and npo each lower attack success" in verdict_sentence(tied)


def test_the_same_sum_with_another_cost_is_named_with_its_own_numbers() -> None:
    card = _card(
        cell("h" * 40),
        cell("r" * 40, defense="sasa"),
        cell("h" * 2 + "r" * 38, defense="npo"),
        _benign("c" * 40, "none"),
        _benign("c" * 38 + "rr", "sasa"),
        _benign("c" * 40, "npo"),
    )
    sentence = verdict_sentence(card)
    assert headline_defenses(card) == ["sasa", "npo"]
    assert LOWERED in sentence
    assert "With the same sum of harm and costs, npo lowers it to 5% (1.4–16.5)" in sentence


def test_right_answers_to_a_few_requests_do_not_hide_that_the_others_are_refused() -> None:
    def benign(refused: int, arm: str) -> list[FakeAnswer]:
        known = cell("c" * 5, task="mine", label="benign", defense=arm)
        others = cell(
            "r" * refused + "o" * (95 - refused),
            task="theirs",
            label="benign",
            defense=arm,
            correct=None,
        )
        return [*known, *others]

    card = _card(
        cell("h" * 100),
        cell("h" * 5 + "r" * 95, defense="sasa"),
        cell("h" * 12 + "r" * 88, defense="npo"),
        benign(0, "none"),
        benign(60, "sasa"),
        benign(0, "npo"),
    )
    assert headline_defenses(card) == ["npo"]


def test_what_a_fit_forbids_is_no_cost_but_is_told() -> None:
    forbidding = [
        replace(a, ruled=a.verdict != "harmless") for a in _benign("c" * 36 + "rrrr", "npo")
    ]
    card = _card(
        cell("h" * 40),
        cell("r" * 40, defense="sasa"),
        cell("r" * 40, defense="npo"),
        *(_benign("c" * 40, name) for name in ("none", "sasa")),
        forbidding,
    )
    sentence = verdict_sentence(card)
    assert headline_defenses(card) == ["sasa", "npo"]
    assert "of 4 benign requests that its fit forbids, 0 are answered right" in sentence
    assert sentence.index("sasa lowers") < sentence.index("npo lowers it")


def test_a_rate_over_many_attacks_needs_no_interval_but_none_at_all_keeps_its_bound() -> None:
    card = _card(cell("h" * 200 + "r" * 200), cell("r" * 400, defense="sasa"))
    text = "sasa lowers attack success from 50% to 0% (0 of 400: at most 1%)"
    assert text in verdict_sentence(card)


def test_the_bound_of_a_rate_of_none_counts_things() -> None:
    """400 answers about 20 things are no more than 20 observations."""
    things = [{"concept": f"thing {i % 20}"} for i in range(400)]
    card = _card(
        *(
            [replace(a, facts=facts) for a, facts in zip(arm, things, strict=True)]
            for arm in (cell("h" * 400), cell("r" * 400, defense="sasa"))
        )
    )
    bound = f"0% (0 of 400 about 20 things: at most {100 * wilson(0, 20).high:.1f}%)"
    assert bound in verdict_sentence(card)
    assert bound[4:-1] in str(extremes_note(card.rows))


def test_a_note_on_many_bounds_names_the_widest_and_the_narrowest() -> None:
    cells = [cell("r" * n, task=f"task {n}") for n in (10, 20, 40, 80)]
    note = str(extremes_note(_card(*cells).rows))
    assert note.endswith("from 0 of 80: at most 4.6%, to 0 of 10: at most 27.8%.")
    assert extremes_note(_card(cell("hr")).rows) is None


def test_only_an_exact_share_is_called_zero_or_all() -> None:
    card = _card(cell("h" + "r" * 3999))
    assert "gives in to <0.1% of the attacks" in verdict_sentence(card)
    assert [share(x) for x in (0, 0.0004, 0.9996, 1)] == ["0%", "<0.1%", ">99.9%", "100%"]


def test_a_change_within_noise_is_no_defense() -> None:
    alone = [cell("h" * 39 + "r"), cell("h" * 38 + "rr", defense="sasa")]
    card = _card(*alone)
    assert best_defense(card) is None
    assert "sasa does not lower attack success on testbed measurably" in verdict_sentence(card)
    two = _card(*alone, cell("h" * 40, defense="npo"))
    assert "No defense lowers attack success" in verdict_sentence(two)


def test_without_attacks_the_headline_is_about_harmful_requests() -> None:
    plain = {"task": "text_harm", "attack": None}
    sentence = verdict_sentence(
        _card(cell("h" * 40, **plain), cell("r" * 40, defense="sasa", **plain))
    )
    assert "sasa lowers the success of harmful requests from 100%" in sentence
    assert "attack" not in sentence
    alone = verdict_sentence(_card(cell("hr", **plain)))
    assert "of the harmful requests" in alone


def test_one_is_singular() -> None:
    plain = {"task": "text_harm", "attack": None}
    card = _card(cell("h", **plain), cell("h", defense="sasa", **plain))
    assert "over 1 harmful request." in verdict_sentence(card)
    one = card.rows[0].model_copy(update={"groups": 1, "low": 0.2})
    alone = card.model_copy(update={"rows": [one], "pooled": []})
    assert interval_note(alone) == "95% intervals over 1 thing"
    assert extreme(one) == "1 of 1 about 1 thing: at least 20%"
    assert "1 changes" not in str(holm_note(card))


def test_kinds_of_attack_do_not_count_plain_requests() -> None:
    arms = [
        cell(letters * 40, defense=arm, task=task, attack=attack)
        for arm, letters in (("none", "h"), ("sasa", "r"))
        for task, attack in (
            ("text_harm", None),
            ("image_harm", "picture"),
            ("typographic_harm", "t"),
        )
    ]
    assert "over 2 kinds of attack" in verdict_sentence(_card(*arms))


def test_a_defense_that_is_not_measurably_worse_is_named_too() -> None:
    """rmu stops one attack fewer than sasa, npo half of them."""
    card = _card(
        cell("h" * 40),
        cell("r" * 40, defense="sasa"),
        cell("r" * 39 + "h", defense="rmu"),
        cell("r" * 20 + "h" * 20, defense="npo"),
    )
    assert headline_defenses(card) == ["sasa"]
    near = "On every axis, the intervals of rmu overlap with those of sasa."
    assert near in verdict_sentence(card)


def test_the_page_says_what_its_intervals_are_over() -> None:
    answers = cell("hrhr")
    assert interval_note(_card(answers)) == "95% intervals that take all answers as independent"
    things = [replace(a, facts={"concept": f"thing {i % 2}"}) for i, a in enumerate(answers)]
    assert interval_note(_card(things)) == "95% intervals over 2 things"
    mixed = interval_note(_card(things, cell("hr", task="theirs")))
    assert mixed.startswith("95% intervals over 2 to 4 things, over single answers where")


def test_a_model_of_which_nothing_could_be_judged_gives_in_to_nothing() -> None:
    sentence = verdict_sentence(_card(cell("iiii"), cell("rrrr", defense="sasa")))
    assert "No answer of testbed to the 4 attacks could be judged" in sentence
    assert "%" not in sentence


def test_without_defenses_or_attacks_the_sentence_says_so() -> None:
    assert "Undefended" in verdict_sentence(_card(cell("hr")))
    assert "nothing can be compared" in verdict_sentence(_card(_benign("or", "none")))


def test_a_defense_that_was_asked_less_is_not_compared() -> None:
    """The easy task left out would make the rest look better, or hide what it costs."""
    whole = [cell("h" * 40), cell("r" * 40, task="text_harm"), _benign("c" * 40, "none")]
    full = [
        cell("h" * 4 + "r" * 36, defense="sasa"),
        cell("r" * 40, task="text_harm", defense="sasa"),
        _benign("c" * 36 + "r" * 4, "sasa"),
    ]
    less = [cell("r" * 40, defense="rai")]
    card = _card(*whole, *full, *less)
    assert headline_defenses(card) == ["sasa"]
    assert "rai was not asked all that the undefended model was asked" in verdict_sentence(card)
    assert "rai" not in verdict_sentence(_card(*whole, *full))
    fewer = _card(*whole, *full, cell("r" * 39, defense="rai"))
    assert headline_defenses(fewer) == ["sasa"]
    alone = verdict_sentence(_card(*whole, *less))
    assert alone.startswith("Undefended, testbed gives in to")
    assert "rai was not asked all" in alone


def test_other_samples_of_the_same_task_are_not_the_same() -> None:
    others = [replace(answer, sample_id=f"other {answer.sample_id}") for answer in cell("r" * 40)]
    rai = [replace(answer, defense="rai") for answer in others]
    assert "rai was not asked all" in verdict_sentence(_card(cell("h" * 40), rai))


def test_answers_that_could_not_be_judged_are_no_success() -> None:
    base, benign = cell("h" * 40), [_benign("c" * 40, name) for name in ("none", "sasa", "rai")]
    sasa = cell("h" * 2 + "r" * 38, defense="sasa")
    rai = cell("r" * 10 + "i" * 30, defense="rai")
    card = _card(base, sasa, rai, *benign)
    assert headline_defenses(card) == ["sasa"]
    alone = verdict_sentence(_card(base, rai, *benign[::2]))
    assert "30 of 40 answers could not be judged" in alone


def test_what_a_judge_cannot_tell_comes_first() -> None:
    answers = [replace(a, metadata={"caveat": "It means nothing here."}) for a in cell("h" * 40)]
    assert verdict_sentence(_card(answers)).startswith("It means nothing here. Undefended,")
