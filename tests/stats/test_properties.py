"""What holds of every rate, change and correction, against closed forms and other libraries."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from safesight.stats import (
    Clusters,
    clusters_of,
    holm,
    mean_interval,
    paired_difference,
    sign_flips,
    wilson,
)

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_its_closed_form(counts: tuple[int, int]) -> None:
    hits, n = counts
    found = wilson(hits, n)
    assert (found.low, found.high) == pytest.approx(
        proportion_confint(hits, n, method="wilson"), abs=1e-9
    )
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(PAIRS)
@settings(deadline=None, max_examples=40)
def test_a_change_over_single_samples_has_mcnemars_p_value(pairs: list[tuple[bool, bool]]) -> None:
    before, after = map(list, zip(*pairs, strict=True))
    found = paired_difference(before, after)
    table = [[0, found.lost], [found.gained, 0]]
    expected = mcnemar(table, exact=True).pvalue if found.gained + found.lost else 1.0
    assert found.p_value == pytest.approx(min(1.0, float(expected)))
    assert found.delta == pytest.approx((sum(after) - sum(before)) / len(pairs))
    assert -1 <= found.low <= found.delta <= found.high <= 1


@given(PAIRS, st.integers(1, 8))
@settings(deadline=None, max_examples=40)
def test_a_change_over_groups_is_flipped_group_by_group(
    pairs: list[tuple[bool, bool]], groups: int
) -> None:
    """Against all 2^G sign flips, one by one."""
    before, after = map(list, zip(*pairs, strict=True))
    names = [i % groups for i in range(len(pairs))]
    clusters = Clusters(names)
    sums = [
        sum(a - b for a, b, name in zip(after, before, names, strict=True) if name == group)
        for group in range(min(groups, len(pairs)))
    ]
    flips = [
        abs(sum(sign * each for sign, each in zip(signs, sums, strict=True))) >= abs(sum(sums))
        for signs in itertools.product((-1, 1), repeat=len(sums))
    ]
    found = paired_difference(before, after, clusters)
    assert found.p_value == pytest.approx(sum(flips) / len(flips))
    assert found.low - 1e-9 <= found.delta <= found.high + 1e-9


@given(st.lists(st.integers(-6, 6), max_size=12))
def test_the_test_does_not_depend_on_order_direction_or_what_did_not_change(
    changes: list[int],
) -> None:
    found = sign_flips(changes)
    assert 0 < found <= 1
    assert sign_flips([-each for each in reversed(changes)]) == pytest.approx(found)
    assert sign_flips([*changes, 0, 0]) == pytest.approx(found)
    assert sign_flips([3 * each for each in changes]) == pytest.approx(found)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_is_its_closed_form(p_values: list[float]) -> None:
    """The largest of (m - j + 1) p(j) over all j up to i, in ascending order, at most 1."""
    found = holm(p_values)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    reached = 0.0
    for rank, index in enumerate(order):
        reached = max(reached, (len(p_values) - rank) * p_values[index])
        assert found[index] == pytest.approx(min(1.0, reached))


def test_holm_is_that_of_statsmodels() -> None:
    for m in (1, 2, 7, 400):
        p_values = np.random.default_rng(m).beta(0.3, 1, m)
        expected = multipletests(p_values, method="holm")[1]
        assert holm(p_values.tolist()) == pytest.approx(expected.tolist(), abs=0)


def test_holm_finds_something_where_there_is_nothing_in_at_most_five_percent() -> None:
    rng = np.random.default_rng(0)
    false = sum(min(holm(rng.random(20).tolist())) < 0.05 for _ in range(1000))
    assert false / 1000 <= 0.07


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.4])
def test_a_large_paired_bootstrap_is_the_normal_interval(shift: float) -> None:
    rng = np.random.default_rng(3)
    before = rng.random(3000) < 0.5
    after = before ^ (rng.random(3000) < 0.1 + shift * ~before)
    change = after.astype(float) - before
    found = paired_difference(before.tolist(), after.tolist())
    half = 1.959964 * change.std() / math.sqrt(3000)
    assert found.low == pytest.approx(change.mean() - half, abs=0.001)
    assert found.high == pytest.approx(change.mean() + half, abs=0.001)


@given(st.lists(st.booleans(), min_size=1, max_size=80))
@settings(deadline=None, max_examples=40)
def test_groups_of_one_are_no_groups_and_named_groups_never_claim_more(hits: list[bool]) -> None:
    """A `group` column in which every row has its own name changes nothing."""
    assert clusters_of(f"goal {i}" for i in range(len(hits))) is None
    values = np.array(hits, dtype=float)
    alone = mean_interval(values)
    paired = mean_interval(values, clusters_of([i // 2 for i in range(len(hits))]))
    assert (paired.value, paired.n) == (alone.value, alone.n)
    assert paired.low <= alone.low + 1e-9
    assert paired.high >= alone.high - 1e-9
