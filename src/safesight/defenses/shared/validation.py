"""Cross-validation of linear probes that leaves whole things out, and the choice it leads to.

A probe that saw a pistol in one picture finds the next pistol easily. Folds that mix the two
measure recognition; folds that hold out every prompt about pistols measure what the probe makes
of a thing it has not seen. No model here: features in, numbers out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from safesight.activations import LinearProbe, RocArea, auroc, threshold_at_fpr

__all__ = [
    "Folds",
    "UnseenRate",
    "Validation",
    "balanced_accuracy",
    "choose",
    "folds_of",
    "standard_error",
    "unseen_rate",
    "validated",
]

Key = TypeVar("Key")
"""What identifies a candidate: a block, or a pair of blocks."""

Solver = Callable[[Tensor, Tensor], LinearProbe]
"""Features and labels to a probe."""

By = Literal["thing", "sample"]


@dataclass(frozen=True)
class Folds:
    """Rows to fit on and rows to test on, several times."""

    rows: Sequence[tuple[Tensor, Tensor]]
    by: By
    """What no fold shares between its two halves."""


@dataclass(frozen=True)
class Validation:
    """How well probes do on the prompts that their fold left out."""

    area: RocArea
    folds: int
    by: By
    """What the folds left out: whole things or, where there are too few, single samples."""
    right: Tensor
    """Whether each decision is right, n."""
    labels: Tensor
    """Labels of the same prompts, n."""

    @property
    def accuracy(self) -> float:
        """Balanced accuracy at a probability of one half."""
        return _balanced(self.right, self.labels)


@dataclass(frozen=True)
class UnseenRate:
    """Benign prompts refused, of things that neither the probe nor the threshold has seen."""

    rate: float
    n: int
    things: int


def folds_of(labels: Tensor, things: Sequence[str], folds: int, seed: int) -> Folds:
    """Stratified folds that keep each thing on one side.

    If too few things are harmful, or too few benign, for both labels to be on both sides, samples
    are left out one by one.

    Args:
        labels: n, 1 for harmful.
        things: What each of the n samples is about.
        folds: Number of folds; fewer if one label has fewer things.
        seed: Seed of the shuffle.

    Example:
        >>> found = folds_of(torch.tensor([1, 1, 0, 0]), ["a", "b", "c", "d"], 5, seed=0)
        >>> len(found.rows), found.by
        (2, 'thing')
        >>> folds_of(torch.tensor([1, 1, 0, 0]), ["a", "a", "c", "d"], 2, seed=0).by
        'sample'
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    y, names = labels.numpy(), np.asarray(things)
    number = min(folds, *(len(set(names[y == label])) for label in (0, 1)))
    if number >= 2:
        grouped = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
        rows = [_rows(*pair) for pair in grouped.split(y, y, names)]
        if all(len(set(labels[train].tolist())) == 2 and len(test) for train, test in rows):
            return Folds(rows, "thing")
    number = min(folds, int((y == 0).sum()), int((y == 1).sum()))
    plain = StratifiedKFold(number, shuffle=True, random_state=seed)
    return Folds([_rows(*pair) for pair in plain.split(y, y)], "sample")


def _rows(train: object, test: object) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(train), torch.as_tensor(test)


def validated(features: Tensor, labels: Tensor, folds: Folds, solver: Solver) -> Validation:
    """Accuracy and area under the ROC curve of out-of-fold scores.

    Args:
        features: n x d.
        labels: n.
        folds: Rows of these.
        solver: Fits a probe.
    """
    scores = torch.zeros(len(labels))
    for train, test in folds.rows:
        scores[test] = solver(features[train], labels[train]).score(features[test])
    right = _right(scores, labels)
    return Validation(auroc(scores, labels), len(folds.rows), folds.by, right, labels)


def balanced_accuracy(scores: Tensor, labels: Tensor) -> float:
    """The mean of both labels' shares of right decisions, at a log-odds of zero.

    It does not depend on how many prompts of each label there are, and, unlike the area under the
    ROC curve, it still tells candidates apart that all rank almost perfectly.

    Example:
        >>> balanced_accuracy(torch.tensor([1.0, -1.0, -1.0]), torch.tensor([1, 1, 0]))
        0.75
    """
    return _balanced(_right(scores, labels), labels)


def _balanced(right: Tensor, labels: Tensor) -> float:
    return float(sum(right[labels == label].double().mean() for label in (0, 1)) / 2)


def _right(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores >= 0) == (labels == 1)


def choose(found: Mapping[Key, Validation], margin: float) -> Key:
    """The first candidate, unless the best one is more accurate by more than margin and noise.

    The noise is one standard error of the difference (Breiman et al., Classification and Regression
    Trees, 1984): of many candidates, one is best by chance, the more so the fewer the prompts.

    Args:
        found: Candidates in order of preference, validated on the same prompts; of equally good
            ones, the first counts.
        margin: In balanced accuracy, stated before the comparison.
    """
    preferred = next(iter(found))
    best = max(found, key=lambda key: round(found[key].accuracy, 6))
    gain = found[best].accuracy - found[preferred].accuracy
    needed = margin + standard_error(found[best], found[preferred])
    return best if gain > needed + 1e-9 else preferred


def standard_error(one: Validation, other: Validation) -> float:
    """Standard error of the difference of two balanced accuracies, paired over the same prompts.

    With d the difference of the two decisions on a prompt, n_y the prompts of label y:

        SE^2 = (Var(d | y = 0) / n_0 + Var(d | y = 1) / n_1) / 4
    """
    change = one.right.double() - other.right.double()
    parts = [change[one.labels == label] for label in (0, 1)]
    return math.sqrt(float(sum(part.var() / len(part) for part in parts)) / 4)


def unseen_rate(
    fitted: tuple[Tensor, Tensor, Sequence[str]],
    held_out: tuple[Tensor, Sequence[str]],
    folds: Folds,
    solver: Solver,
    max_fpr: float,
) -> UnseenRate | None:
    """The false-positive rate on things left out of both the fit and the calibration.

    The threshold that is used was set on other prompts about the same things. Here each fold
    leaves its things out of both, sets a threshold on the rest, and counts.

    Args:
        fitted: Features, labels and things of the fit.
        held_out: Features and things of the benign prompts that set the threshold.
        folds: Of the fit's rows.
        solver: Fits a probe.
        max_fpr: As for the threshold.

    Returns:
        None if the folds are not by thing, or share no thing with the held-out prompts.
    """
    features, labels, things = fitted
    benign, names = held_out
    flagged, counted = 0, set()
    total = 0
    for train, test in folds.rows if folds.by == "thing" else ():
        away = {things[row] for row in test.tolist()}
        unseen = torch.tensor([name in away for name in names])
        if not unseen.any() or unseen.all():
            continue
        probe = solver(features[train], labels[train])
        threshold = threshold_at_fpr(probe.score(benign[~unseen]), max_fpr)
        flagged += int((probe.score(benign[unseen]) >= threshold.value).sum())
        total += int(unseen.sum())
        counted |= away & set(names)
    return UnseenRate(flagged / total, total, len(counted)) if total else None
