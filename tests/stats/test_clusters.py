"""Grouped samples against statsmodels, scipy and planted data with known coverage."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

import safesight.stats.clusters
from safesight.stats import (
    Clusters,
    clusters_of,
    design_effect,
    mean_interval,
    paired_difference,
    relative_reduction,
    sign_flips,
    wilson,
)
from safesight.types import group_of

Rng = np.random.Generator


def things(rng: Rng, groups: int, each: int) -> tuple[np.ndarray, np.ndarray, Clusters]:
    """Attacks before and after a defense; how often both succeed depends on the thing."""
    codes = np.repeat(np.arange(groups), each)
    chance = rng.beta(0.5, 0.5, groups)[codes]
    effect = rng.uniform(0.0, 0.6, groups)[codes]
    before = rng.random(len(codes)) < chance
    after = before & (rng.random(len(codes)) >= effect)
    return before, after, Clusters([f"thing {code}" for code in codes])


def test_the_spread_of_a_rate_is_the_cluster_robust_one() -> None:
    hits, _, clusters = things(np.random.default_rng(0), 60, 20)
    rate = mean_interval(hits.astype(float), clusters)
    codes = np.repeat(np.arange(60), 20)
    fit = sm.OLS(hits.astype(float), np.ones(len(hits)))
    low, high = fit.fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True).conf_int()[0]
    assert (rate.low, rate.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert (rate.n, rate.groups) == (1200, 60)


def test_grouped_intervals_cover_the_truth_and_ungrouped_ones_do_not() -> None:
    """At 95% nominal, over 60 planted experiments, for a rate, a change and a reduction."""
    rng = np.random.default_rng(1)
    covered, alone = np.zeros(3), np.zeros(3)
    for _ in range(60):
        before, after, clusters = things(rng, 25, 20)
        truths = (0.5, -0.15, 0.3)
        for found, by in ((covered, clusters), (alone, None)):
            rate = mean_interval(before.astype(float), by)
            change = paired_difference(before.tolist(), after.tolist(), by)
            less = relative_reduction(before.tolist(), after.tolist(), by)
            for i, (each, truth) in enumerate(zip((rate, change, less), truths, strict=True)):
                found[i] += each.low <= truth <= each.high
    assert (covered >= 0.9 * 60).all(), covered
    assert (alone[:2] <= 0.8 * 60).all(), alone


def test_seeds_that_differ_widen_what_groups_alone_would_not_show() -> None:
    """Every thing behaves the same, but one of three fits works and two do not."""
    seeds = [seed for seed in range(3) for _ in range(40)]
    hits = np.array([seed == 0 for seed in seeds], dtype=float)
    groups = [f"thing {i % 20}" for i in range(120)]
    crossed = mean_interval(hits + 0.0, Clusters(groups, seeds))
    mixed = hits.copy()
    mixed[0] = 0  # one thing differs, so that groups alone can be resampled
    narrow = mean_interval(mixed, Clusters(groups))
    wide = mean_interval(mixed, Clusters(groups, seeds))
    assert narrow.high - narrow.low < 0.2
    assert (wide.low, wide.high) == (0.0, pytest.approx(1.0, abs=0.05))
    assert (crossed.low, crossed.high) == (0.0, 1.0)
    change = paired_difference([False] * 120, (hits > 0).tolist(), Clusters(groups, seeds))
    assert (change.low, change.high) == (0.0, 1.0)
    less = relative_reduction([True] * 120, (hits == 0).tolist(), Clusters(groups, seeds))
    assert (less.low, less.high) == (0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_groups_agree_only_they_are_counted(value: float) -> None:
    clusters = Clusters([f"thing {i % 10}" for i in range(300)])
    rate = mean_interval(np.full(300, value), clusters)
    expected = wilson(round(10 * value), 10)
    assert (rate.low, rate.high) == (expected.low, expected.high)
    arms = [bool(value)] * 300
    change = paired_difference(arms, arms, clusters)
    assert (change.low, change.high) == (pytest.approx(-wilson(0, 10).high), -change.low)
    assert change.p_value == 1.0
    stopped = relative_reduction([True] * 300, [False] * 300, clusters)
    assert (stopped.value, stopped.high) == (1.0, 1.0)
    assert stopped.low == pytest.approx(1 - wilson(0, 10).high)


def test_a_change_that_is_equal_everywhere_is_not_certain_and_words_have_no_bound() -> None:
    clusters = Clusters([f"thing {i % 10}" for i in range(300)])
    change = mean_interval(np.zeros(300), clusters, kind="change")
    assert (change.low, change.high) == (-wilson(0, 10).high, wilson(0, 10).high)
    words = mean_interval(np.full(300, 7.0), clusters, kind="amount")
    assert (words.low, words.high) == (7.0, 7.0)


def test_one_thing_is_one_observation() -> None:
    rate = mean_interval(np.array([0.0, 1.0] * 50), Clusters(["axe"] * 100))
    assert rate.high - rate.low > 0.8


def test_a_single_hit_is_no_more_certain_than_alone() -> None:
    hits = np.zeros(300)
    hits[0] = 1.0
    rate = mean_interval(hits, Clusters([f"thing {i % 30}" for i in range(300)]))
    assert rate.high >= wilson(1, 300).high


def test_sign_flips_are_scipys_exact_permutation_test() -> None:
    changes = [-3, 2, 0, -5, -1, 4, -6, -2]
    test = stats.permutation_test(
        (np.array(changes),), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flips(changes) == pytest.approx(test.pvalue)
    assert sign_flips([]) == sign_flips([0, 0]) == 1.0


@pytest.mark.parametrize(("gained", "lost"), [(3, 12), (0, 6), (7, 7), (90, 130)])
def test_sign_flips_of_single_samples_are_mcnemars_test(gained: int, lost: int) -> None:
    expected = stats.binomtest(gained, gained + lost, 0.5).pvalue
    assert sign_flips([1] * gained + [-1] * lost) == pytest.approx(expected)


def test_one_thing_that_changed_a_hundred_times_proves_nothing() -> None:
    before, after = [True] * 100, [False] * 100
    assert paired_difference(before, after, Clusters(["axe"] * 100)).p_value == 1.0
    assert paired_difference(before, after).p_value < 1e-20


def test_a_thing_that_is_all_or_nothing_has_the_largest_design_effect() -> None:
    clusters = Clusters([f"thing {i // 20}" for i in range(800)])
    rng = np.random.default_rng(0)
    together = np.repeat(rng.random(40) < 0.5, 20).astype(float)
    assert design_effect(together, clusters) == pytest.approx(20, rel=0.05)
    alone = [design_effect(rng.random(800) < 0.5, clusters) for _ in range(40)]
    assert np.mean(alone) == pytest.approx(1.0, abs=0.1)
    assert np.isnan(design_effect(np.ones(800), clusters))


def test_the_order_of_samples_and_the_names_of_seeds_do_not_matter() -> None:
    hits, _, clusters = things(np.random.default_rng(2), 15, 4)
    order = np.random.default_rng(3).permutation(len(hits))
    shuffled = Clusters([clusters.groups[i] for i in order])
    found = mean_interval(hits.astype(float), clusters)
    assert mean_interval(hits[order].astype(float), shuffled) == found


def test_the_group_of_a_sample_is_named_by_its_facts() -> None:
    facts = [{"group": 1, "concept": "axe"}, {"concept": "axe"}, {"concept": "axe"}, {}, {}]
    named = clusters_of(group_of(each, ("own", i)) for i, each in enumerate(facts))
    assert named is not None
    assert named.count == 4
    assert clusters_of(["s-0", "s-1"]) is None
    seeds = clusters_of(["s-0", "s-1"], [0, 1])
    assert seeds is not None
    assert seeds.count == 2


def test_resamples_that_are_drawn_in_parts_are_those_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hits, _, clusters = things(np.random.default_rng(2), 40, 3)
    at_once = clusters.drawn(hits.astype(float), seed=7)
    monkeypatch.setattr(safesight.stats.clusters, "_AT_ONCE", 1000)
    monkeypatch.setattr(safesight.stats.clusters, "_KEPT", 0)
    assert np.array_equal(clusters.drawn(hits.astype(float), seed=7), at_once)


@pytest.mark.parametrize("each", [1, 2])
def test_a_large_file_needs_little_memory(each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All resamples at once would be 400 MB for the groups, and more for the pairs."""
    monkeypatch.setattr(safesight.stats.clusters, "RESAMPLES", 999)
    monkeypatch.setattr(safesight.stats.clusters, "_AT_ONCE", 500_000)
    rng = np.random.default_rng(0)
    before, after = (rng.random(20_000) < rate for rate in (0.1, 0.09))
    clusters = clusters_of([i // each for i in range(20_000)])
    tracemalloc.start()
    found = paired_difference(before.tolist(), after.tolist(), clusters)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6, f"{peak / 1e6:.0f} MB"
    assert found.low < -0.01 < found.high
