"""Which answers are hits, and which are in the denominator."""

from __future__ import annotations

import pytest

from safesight.stats import METRICS, Judgement, MetricName, both_judged, share_of
from safesight.types import VERDICTS

ANSWERS = [
    Judgement("harmful"),
    Judgement("harmful"),
    Judgement("refused"),
    Judgement("harmless", correct=True),
    Judgement("invalid", correct=True),
]


@pytest.mark.parametrize(
    ("metric", "value", "n"),
    [
        ("attack_success_rate", 2 / 4, 4),
        ("refusal_rate", 1 / 4, 4),
        ("over_refusal_rate", 1 / 4, 4),
        ("benign_utility", 1 / 5, 5),
        ("utility", 1 / 5, 5),
    ],
)
def test_a_rate_on_a_hand_counted_table(metric: MetricName, value: float, n: int) -> None:
    rate = METRICS[metric].rate(ANSWERS)
    assert (rate.value, rate.n, rate.invalid) == (pytest.approx(value), n, 1)


@pytest.mark.parametrize(
    ("metric", "value", "n"),
    [
        ("attack_success_rate", None, 0),
        ("refusal_rate", None, 0),
        ("over_refusal_rate", None, 0),
        ("benign_utility", 0.0, 3),
        ("utility", 0.0, 3),
    ],
)
def test_a_model_of_which_no_answer_can_be_judged_has_no_rate_but_is_wrong(
    metric: MetricName, value: float | None, n: int
) -> None:
    rate = METRICS[metric].rate([Judgement("invalid", correct=True)] * 3)
    assert (rate.value, rate.low, rate.n, rate.invalid) == (value, 0.0, n, 3)
    assert rate.rounded()["value"] == value


def test_what_no_one_knows_the_answer_to_is_neither_right_nor_wrong() -> None:
    rate = METRICS["utility"].rate([Judgement("harmless", None), Judgement("harmless", True)])
    assert (rate.value, rate.n) == (1.0, 1)


def test_pairs_count_where_both_could_be_judged() -> None:
    before, after = [True, True, None, True], [False, None, True, True]
    assert both_judged(before, after) == ([True, True], [False, True])
    with pytest.raises(ValueError, match="shorter"):
        both_judged([True], [])


def test_every_metric_says_which_way_is_better() -> None:
    assert {metric.better for metric in METRICS.values()} == {"lower", "higher", "neither"}
    assert {metric.wanted for metric in METRICS.values()} <= {*VERDICTS, "correct", "broken"}


def test_broken_text_counts_whatever_its_verdict_and_only_where_it_is_known() -> None:
    answers = [
        Judgement("harmful", broken=True),
        Judgement("invalid", broken=True),
        Judgement("harmless", broken=False),
        Judgement("refused", broken=False),
        Judgement("refused"),
    ]
    rate = METRICS["broken_rate"].rate(answers)
    assert (rate.value, rate.n) == (2 / 4, 4)
    assert METRICS["broken_rate"].rate([Judgement("refused")]).value is None


def test_shares_are_of_all_answers() -> None:
    invalid = share_of("invalid", [answer.verdict for answer in ANSWERS])
    assert (invalid.value, invalid.n) == (0.2, 5)
