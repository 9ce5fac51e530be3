from __future__ import annotations

import math

import pytest
import torch

from safesight.activations import LinearProbe, auroc, threshold_at_fpr
from safesight.errors import InputError


def planted(n=200, d=6, seed=0, gap=4.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    features = torch.randn(n, d, generator=generator)
    features[:, 2] += gap * labels
    return features, labels


def test_probe_finds_a_planted_direction_and_not_a_shuffled_one():
    features, labels = planted()
    fresh, truth = planted(seed=1)
    probe = LinearProbe.fit(features, labels)
    assert auroc(probe.score(fresh), truth).value > 0.98
    assert int(probe.weight.abs().argmax()) == 2
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))]
    control = auroc(LinearProbe.fit(features, shuffled).score(fresh), truth)
    assert control.value < 0.9


def test_probe_is_scikit_learns_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    features, labels = planted(gap=1.0)
    probe = LinearProbe.fit(features, labels, C=0.3)
    reference = LogisticRegression(
        C=0.3, solver="liblinear", class_weight="balanced", max_iter=2000, random_state=0
    ).fit(features.numpy(), labels.numpy())
    expected = torch.tensor(reference.decision_function(features.numpy()), dtype=torch.float32)
    assert torch.allclose(probe.score(features), expected, atol=1e-5)


def test_standardizing_is_folded_into_the_weights():
    features, labels = planted(gap=1.0)
    scaled = features * torch.tensor([1.0, 100.0, 0.01, 1.0, 1.0, 1.0]) + 5.0
    scaled[:, 4] = 7.0  # a feature that never varies must not divide by zero
    plain = features.clone()
    plain[:, 4] = 0.0
    one = LinearProbe.fit(scaled, labels, standardize=True).score(scaled)
    two = LinearProbe.fit(plain, labels, standardize=True).score(plain)
    assert torch.allclose(one, two, atol=1e-2)


def test_probe_takes_bfloat16_features():
    features, labels = planted()
    probe = LinearProbe.fit(features.bfloat16(), labels)
    assert probe.score(features.bfloat16()).dtype == torch.float32


def test_one_kind_only_is_refused():
    with pytest.raises(InputError, match="Add the missing kind"):
        LinearProbe.fit(torch.zeros(3, 2), torch.ones(3))


def test_features_that_are_not_finite_are_refused():
    features, labels = planted()
    features[0, 0] = torch.inf
    with pytest.raises(InputError, match="not finite"):
        LinearProbe.fit(features, labels)


@pytest.mark.parametrize("n", [10, 37, 100, 1000])
@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.1, 0.29])
def test_threshold_never_flags_more_than_asked_and_wastes_nothing(n, fpr):
    scores = torch.randn(n, generator=torch.Generator().manual_seed(n))
    threshold = threshold_at_fpr(scores, fpr)
    flagged = int((scores >= threshold.value).sum())
    assert flagged == math.floor(fpr * n + 1e-9) == round(threshold.rate * n)
    assert threshold.low <= threshold.rate <= threshold.high


def test_threshold_flags_the_same_scores_after_other_rounding():
    scores = torch.randn(200, generator=torch.Generator().manual_seed(0))
    threshold = threshold_at_fpr(scores, 0.05).value
    flagged = scores >= threshold
    for bits in (1, -1):
        rounded = scores + bits * 2e-6 * scores.abs()
        assert torch.equal(rounded >= threshold, flagged)


def test_scores_without_a_number_between_them_are_still_told_apart():
    low = torch.tensor(1.0)
    high = torch.nextafter(low, torch.tensor(2.0))
    threshold = threshold_at_fpr(torch.stack([low] * 9 + [high]), 0.1)
    assert (threshold.value, threshold.rate) == (high.item(), 0.1)


def test_ties_are_never_flagged_beyond_the_rate():
    threshold = threshold_at_fpr(torch.tensor([0.0] * 5 + [1.0] * 5), 0.2)
    assert threshold.rate == 0.0
    assert threshold.value > 1.0


def test_the_interval_is_clopper_pearson():
    # Zero of n: the exact upper bound is 1 - 0.025^(1/n).
    threshold = threshold_at_fpr(torch.arange(50.0), 0.0)
    assert threshold.high == pytest.approx(1 - 0.025 ** (1 / 50), rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "fpr"),
    [(torch.zeros(0), 0.1), (torch.tensor([torch.nan]), 0.1), (torch.zeros(3), 1.0)],
)
def test_threshold_refuses_what_it_cannot_use(scores, fpr):
    with pytest.raises(InputError):
        threshold_at_fpr(scores, fpr)


def test_auroc_counts_ties_half_and_agrees_with_scikit_learn():
    from sklearn.metrics import roc_auc_score

    scores = torch.tensor([0.1, 0.4, 0.4, 0.4, 0.9, 0.2])
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    assert auroc(scores, labels).value == pytest.approx(roc_auc_score(labels, scores))


def test_auroc_interval_covers_the_true_area():
    # Two unit normals one apart: the area is Phi(1 / sqrt 2) = 0.760.
    truth, covered = 0.5 * (1 + math.erf(0.5)), 0
    for seed in range(200):
        features, labels = planted(60, 3, seed=seed, gap=1.0)
        area = auroc(features[:, 2], labels)
        assert area.low <= area.value <= area.high
        covered += area.low <= truth <= area.high
    assert 182 <= covered <= 199


@pytest.mark.parametrize("flip", [False, True])
def test_a_perfect_separation_keeps_an_interval(flip):
    scores, labels = torch.arange(20.0), torch.arange(20) >= 10
    area = auroc(-scores if flip else scores, labels)
    assert area.value == (0.0 if flip else 1.0)
    assert 0.05 < area.high - area.low < 0.4
