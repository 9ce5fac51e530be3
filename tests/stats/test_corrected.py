"""Rates corrected for a judge's errors, against the closed form and in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from safesight.errors import InputError
from safesight.stats import Clusters, JudgeErrors, corrected_rate, rogan_gladen, wilson

SHARES = st.floats(0, 1)
COUNTS = st.integers(1, 400)


@settings(deadline=None)
@given(SHARES, SHARES, SHARES)
def test_the_closed_form_undoes_what_the_judge_does(true: float, sens: float, spec: float) -> None:
    assume(sens + spec > 1.01)
    observed = true * sens + (1 - true) * (1 - spec)
    assert rogan_gladen(observed, sens, spec) == pytest.approx(true, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 60), st.integers(1, 60), COUNTS, COUNTS, st.data())
def test_the_estimate_is_the_closed_form_clipped(
    seen: int, unseen: int, hits: int, others: int, data: st.DataObject
) -> None:
    found = data.draw(st.integers(0, hits))
    passed = data.draw(st.integers(0, others))
    assume(found / hits + passed / others > 1)
    errors = JudgeErrors(found, hits, passed, others)
    rate = corrected_rate([True] * seen + [False] * unseen, errors)
    free = rogan_gladen(seen / (seen + unseen), errors.sensitivity, errors.specificity)
    assert rate.value == pytest.approx(min(1, max(0, free)))
    assert rate.clipped == (not 0 <= free <= 1)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    assert rate.n == seen + unseen


def test_a_judge_without_errors_changes_nothing() -> None:
    sure = JudgeErrors(10**6, 10**6, 10**6, 10**6)
    rate, raw = corrected_rate([True] * 30 + [False] * 70, sure), wilson(30, 100)
    assert rate.value == pytest.approx(0.3)
    assert (rate.low, rate.high) == pytest.approx((raw.low, raw.high), abs=0.02)
    assert not rate.clipped


def test_fewer_labelled_answers_make_a_wider_interval() -> None:
    hits = [True] * 40 + [False] * 60
    widths = []
    for n in (20, 200, 20_000):
        rate = corrected_rate(hits, JudgeErrors(9 * n // 10, n, 9 * n // 10, n))
        widths.append(rate.high - rate.low)
    assert widths[0] > widths[1] > widths[2]


@pytest.mark.parametrize("hits", [[True] * 40, [False] * 40])
def test_answers_that_agree_are_no_certainty(hits: list[bool]) -> None:
    rate = corrected_rate(hits, JudgeErrors(200, 200, 200, 200))
    assert rate.value == float(hits[0])
    assert 0.04 < rate.high - rate.low < 0.2


@pytest.mark.parametrize(("found", "passed"), [(50, 50), (30, 60), (0, 0)])
def test_a_judge_no_better_than_chance_is_refused(found: int, passed: int) -> None:
    with pytest.raises(InputError, match="not add up to more than 1: it is no better than chance"):
        corrected_rate([True, False], JudgeErrors(found, 100, passed, 100))


@pytest.mark.parametrize("errors", [JudgeErrors(0, 0, 9, 9), JudgeErrors(9, 9, 0, 0)])
def test_a_judge_measured_on_one_kind_of_answer_is_refused(errors: JudgeErrors) -> None:
    with pytest.raises(InputError, match="answers of one kind only"):
        corrected_rate([True, False], errors)


def test_a_judge_barely_better_than_chance_tells_nothing() -> None:
    rate = corrected_rate([True] * 50 + [False] * 50, JudgeErrors(52, 100, 52, 100))
    assert (rate.low, rate.high) == (0, 1)


def test_answers_about_few_things_tell_less_and_their_order_nothing() -> None:
    errors = JudgeErrors(190, 200, 180, 200)
    hits = [True] * 20 + [False] * 30
    things = [index // 10 for index in range(50)]
    alone, grouped = corrected_rate(hits, errors), corrected_rate(hits, errors, Clusters(things))
    assert grouped.value == alone.value
    assert grouped.groups == 5
    assert grouped.high - grouped.low > alone.high - alone.low
    order = np.random.default_rng(0).permutation(50)
    mixed = [hits[i] for i in order], errors, Clusters([things[i] for i in order])
    assert corrected_rate(*mixed) == grouped


def test_an_estimate_that_every_draw_clips_is_no_certainty() -> None:
    """The judge sees fewer hits than its errors alone would make."""
    rate = corrected_rate([False] * 93, JudgeErrors(200, 200, 150, 200))
    assert (rate.value, rate.clipped, rate.low) == (0.0, True, 0.0)
    assert rate.high >= wilson(0, 93).high


def test_things_that_agree_count_as_one_observation_each() -> None:
    errors = JudgeErrors(200, 200, 200, 200)
    rate = corrected_rate([False] * 100, errors, Clusters([i // 25 for i in range(100)]))
    assert rate.high > 0.3


def test_the_interval_covers_the_truth() -> None:
    """In 200 studies with a judge that errs, at least 90% of the intervals hold the true rate."""
    rng = np.random.default_rng(1)
    true, sens, spec, n, labelled = 0.3, 0.85, 0.9, 150, 120
    held = 0
    for _ in range(200):
        truth = rng.random(n) < true
        seen = np.where(truth, rng.random(n) < sens, rng.random(n) >= spec)
        errors = JudgeErrors(
            int(rng.binomial(labelled, sens)), labelled, int(rng.binomial(labelled, spec)), labelled
        )
        rate = corrected_rate(seen.tolist(), errors)
        held += rate.low <= true <= rate.high
    assert held >= 180
