"""At which layer can harm be detected? The area under the ROC curve of a linear probe.

For each layer, a logistic regression is fitted on the last-token states of harmful and benign
requests and scores held-out ones (stratified folds). Where the requests' objects are known, the
folds share no object, so a probe that only memorised words gets no credit.

    area = share of pairs (harmful i, benign j) of the same test fold with score_i > score_j,
           ties counted half

Only pairs within a fold count, because scores of different probes have different scales. The
interval is the percentile bootstrap over requests, within each label. If all pairs are ranked
correctly, or all incorrectly, a bootstrap would claim certainty; Newcombe's interval for that
many requests is used instead.

A high area means that harm can be detected, not that the model acts on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safesight.activations import LinearProbe
from safesight.analysis.results import Band, Form, Separability
from safesight.errors import InputError
from safesight.stats.areas import newcombe
from safesight.stats.bootstrap import Floats, bands, resampled

__all__ = ["check_folds", "separability"]


def separability(
    harmful: Tensor,
    benign: Tensor,
    *,
    form: Form,
    groups: Sequence[str] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Separability:
    """The area of every layer.

    Args:
        harmful: n x layers x d.
        benign: m x layers x d.
        form: Form of the requests; stored in the result.
        groups: The object of each request, harmful first, n + m in all.
        folds: Number of folds.
        seed: Seed for folds, solver and bootstrap.

    Raises:
        InputError: a label has fewer requests, or fewer different objects, than folds.
    """
    n, m = len(harmful), len(benign)
    check_folds(n, m, groups, folds)
    labels = torch.tensor([1] * n + [0] * m)
    states = torch.cat([harmful, benign]).float()
    fold_of = _folds(labels, groups, folds, seed)
    together = fold_of[:n, None] == fold_of[None, n:]
    counts = resampled(n, seed), resampled(m, seed + 1)
    areas = []
    for layer in range(states.shape[1]):
        scores = _out_of_fold(states[:, layer], labels, fold_of, seed)
        areas.append(_area(scores[:n], scores[n:], together, counts))
    return Separability(
        form=form, areas=areas, harmful=n, benign=m, folds=folds, grouped=groups is not None
    )


def check_folds(n: int, m: int, groups: Sequence[str] | None, folds: int) -> None:
    """Refuse requests of which each fold cannot get one of each label.

    Args:
        n: The number of harmful requests.
        m: That of benign ones.
        groups: The object of each request, harmful first; None if that does not matter.
        folds: Number of folds.

    Raises:
        InputError: a label has fewer requests, or fewer different objects, than folds.
    """
    fewest = min(n, m)
    if groups is not None:
        assert len(groups) == n + m, (len(groups), n, m)
        fewest = min(len(set(groups[:n])), len(set(groups[n:])))
    if fewest < folds:
        what = "requests" if groups is None else "different objects"
        raise InputError(
            f"{folds} folds need at least {folds} {what} per label, but there are only {fewest}. "
            "Use more requests."
        )


def _folds(labels: Tensor, groups: Sequence[str] | None, folds: int, seed: int) -> Any:
    """The test fold of every request."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    splits = splitter(folds, shuffle=True, random_state=seed).split(
        np.zeros(len(labels)), labels.numpy(), groups
    )
    fold_of = np.zeros(len(labels), dtype=int)
    for index, (_, test) in enumerate(splits):
        fold_of[test] = index
    return fold_of


def _out_of_fold(states: Tensor, labels: Tensor, fold_of: Any, seed: int) -> Floats:
    scores = np.zeros(len(labels))
    for fold in np.unique(fold_of):
        train, test = torch.from_numpy(fold_of != fold), torch.from_numpy(fold_of == fold)
        probe = LinearProbe.fit(states[train], labels[train], standardize=True, seed=seed)
        scores[test.numpy()] = probe.score(states[test]).double().numpy()
    return scores


def _area(positive: Floats, negative: Floats, together: Any, counts: tuple[Floats, Floats]) -> Band:
    """Area and interval from n and m scores; `together` (n x m) marks the pairs to compare."""
    difference = positive[:, None] - negative[None, :]
    right = ((difference > 0) + 0.5 * (difference == 0)) * together
    value = right.sum() / together.sum()
    if value in (0.0, 1.0):
        low, high = newcombe(float(value), len(positive), len(negative))
        return Band(value=float(value), low=low, high=high)
    p, q = counts
    pairs = ((p @ together) * q).sum(axis=1)
    draws = ((p @ right) * q).sum(axis=1)[pairs > 0] / pairs[pairs > 0]
    n = len(positive) + len(negative)
    return Band.of(bands(np.array([value]), draws[:, None], n)[0])
