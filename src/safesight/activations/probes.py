"""Linear probes on hidden states, their thresholds and confidence intervals.

The fit is scikit-learn's logistic regression. Only two torch tensors are kept, so a probe is
saved as safetensors and runs on the model's device. Nothing here knows what the features mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safesight.errors import InputError
from safesight.stats.areas import newcombe
from safesight.stats.rates import clopper_pearson

__all__ = ["LinearProbe", "RocArea", "Threshold", "auroc", "threshold_at_fpr"]


@dataclass(frozen=True)
class LinearProbe:
    """`score = features @ weight + bias` in float32; a row is flagged at `score >= threshold`.

    Example:
        >>> probe = LinearProbe(torch.tensor([1.0, 0.0]), torch.tensor(0.0), threshold=0.5)
        >>> probe.flag(torch.tensor([[2.0, 9.0], [0.0, 9.0]]))
        tensor([ True, False])
    """

    weight: Tensor
    """d, float32."""
    bias: Tensor
    """A scalar, float32."""
    threshold: float = 0.0
    """A threshold on the score, which is a log-odds: 0 is a probability of one half."""

    @classmethod
    def fit(
        cls,
        features: Tensor,
        labels: Tensor,
        *,
        C: float = 1.0,
        standardize: bool = False,
        seed: int = 0,
    ) -> LinearProbe:
        """Fit by L2 logistic regression (liblinear, balanced classes), threshold at one half.

        Args:
            features: n x d.
            labels: n, 1 for the kind to flag and 0 for the other.
            C: Inverse strength of the regularization.
            standardize: Scale every feature to unit variance for the fit; the scaling is
                folded into the weights.
            seed: Seed of the solver's coordinate order.

        Raises:
            InputError: one kind has no sample, or features are not finite.
        """
        from sklearn.linear_model import LogisticRegression

        x = features.detach().float().cpu().numpy()
        y = labels.detach().cpu().numpy().astype(int)
        _refuse_unusable(x, y)
        shift, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
        if standardize:
            shift, spread = x.mean(axis=0), x.std(axis=0)
            scale = np.where(spread > 0, spread, 1.0)
        model = LogisticRegression(
            C=C, solver="liblinear", class_weight="balanced", max_iter=2000, random_state=seed
        ).fit((x - shift) / scale, y)
        weight = model.coef_[0] / scale
        bias = model.intercept_[0] - float(weight @ shift)
        return cls(
            torch.tensor(weight, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32)
        )

    def score(self, features: Tensor) -> Tensor:
        """Log-odds of every row: n x d to n, float32, on the features' device."""
        weight = self.weight.to(features.device)
        return features.float() @ weight + self.bias.to(features.device)

    def flag(self, features: Tensor) -> Tensor:
        """True for every row at or above the threshold: n x d to n."""
        return self.score(features) >= self.threshold


@dataclass(frozen=True)
class Threshold:
    """A decision threshold and the false-positive rate it had on the calibration data."""

    value: float
    rate: float
    """Fraction of the calibration scores at or above `value`."""
    low: float
    high: float
    """95% Clopper-Pearson interval of the rate."""
    n: int


def threshold_at_fpr(benign: Tensor, fpr: float) -> Threshold:
    """A threshold that flags as many of the benign scores as a fraction `fpr` allows, and no more.

    A score is flagged when it is at or above the threshold, as in `LinearProbe`. Tied scores
    are flagged together or not at all, so the actual rate may be lower than requested.

    The threshold is midway between the lowest score that it flags and the one below, so that the
    same are flagged where arithmetic differs in the last bits, as on another device or with another
    batch size. If it flags none, it is the next number above the highest score.

    Args:
        benign: n scores of held-out benign samples.
        fpr: The maximum false-positive rate, at least 0 and less than 1.

    Raises:
        InputError: no scores, scores that are not finite, or a rate outside its range.

    Example:
        >>> found = threshold_at_fpr(torch.arange(100.0), 0.02)
        >>> found.value, found.rate
        (97.5, 0.02)
    """
    if not 0 <= fpr < 1:
        raise InputError(f"A false-positive rate of {fpr} is not possible. Use one in [0, 1).")
    scores = benign.detach().float().cpu().flatten()
    if len(scores) == 0 or not bool(scores.isfinite().all()):
        raise InputError(
            f"A threshold needs finite scores of benign samples, but got {len(scores)} scores, "
            f"{int(scores.isfinite().sum())} of them finite. Add benign calibration samples."
        )
    # The added tolerance undoes rounding such as 0.29 * 100 = 28.999999999999996.
    allowed = math.floor(fpr * len(scores) + 1e-9)
    first_unflagged = scores.sort(descending=True).values[allowed]
    value = torch.nextafter(first_unflagged, torch.tensor(math.inf))
    above = scores[scores > first_unflagged]
    if len(above):
        value = value.maximum(((first_unflagged.double() + above.min().double()) / 2).float())
    flagged = int((scores >= value).sum())
    rate = clopper_pearson(flagged, len(scores))
    return Threshold(float(value), rate.value, rate.low, rate.high, rate.n)


@dataclass(frozen=True)
class RocArea:
    """Area under the ROC curve with a 95% interval."""

    value: float
    low: float
    high: float
    positives: int
    negatives: int


def auroc(scores: Tensor, labels: Tensor) -> RocArea:
    """How well scores rank label 1 above label 0, ties counted half.

    The interval is Newcombe's, see `safesight.stats.areas`.

    Raises:
        InputError: one kind is missing, or scores are not finite.

    Example:
        >>> area = auroc(torch.tensor([0.1, 0.2, 0.8, 0.9]), torch.tensor([0, 0, 1, 1]))
        >>> area.value, area.low < 0.8, area.high
        (1.0, True, 1.0)
    """
    from scipy.stats import rankdata

    x = scores.detach().double().cpu().numpy().reshape(-1, 1)
    y = labels.detach().cpu().numpy().astype(int)
    _refuse_unusable(x, y)
    positives, negatives = int((y == 1).sum()), int((y == 0).sum())
    rank_sum = float(rankdata(x[:, 0])[y == 1].sum())
    value = (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
    low, high = newcombe(value, positives, negatives)
    return RocArea(value, low, high, positives, negatives)


def _refuse_unusable(x: Any, y: Any) -> None:
    counts = int((y == 1).sum()), int((y == 0).sum())
    if min(counts) == 0 or sum(counts) != len(y) or len(x) != len(y):
        raise InputError(
            f"A probe needs samples labelled 1 and samples labelled 0, but there are {counts[0]} "
            f"and {counts[1]} among {len(y)} labels for {len(x)} rows. Add the missing kind."
        )
    if not np.isfinite(x).all():
        raise InputError(
            "Some features are not finite. Load the model in float32 or bfloat16 and try again."
        )
