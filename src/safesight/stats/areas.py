"""The interval of an area under the ROC curve.

Newcombe's method 5 (Statistics in Medicine 25, 2006): the areas that lie within 1.96 of their own
Hanley-McNeil standard errors of the observed one. Unlike DeLong's or a bootstrap interval, it does
not collapse to a point when the separation is perfect.
"""

from __future__ import annotations

from collections.abc import Callable

from scipy.optimize import brentq

__all__ = ["newcombe"]


def newcombe(area: float, positives: int, negatives: int) -> tuple[float, float]:
    """The 95% interval of an area measured on these numbers of positive and negative samples.

    Example:
        >>> low, high = newcombe(1.0, 50, 50)
        >>> round(low, 3), high
        (0.96, 1.0)
    """
    star = (positives + negatives) / 2 - 1

    def excess(true: float) -> float:
        spread = 1 + star * (1 - true) / (2 - true) + star * true / (1 + true)
        variance = true * (1 - true) * spread / (positives * negatives)
        return float((area - true) ** 2 - 1.96**2 * variance)

    if area == 0:
        return 0.0, 1 - _below_one(lambda true: excess(1 - true))
    if area == 1:
        return _below_one(excess), 1.0
    return float(brentq(excess, 0.0, area)), float(brentq(excess, area, 1.0))


def _below_one(excess: Callable[[float], float]) -> float:
    """The lower root, where the upper root is 1."""
    return float(brentq(excess, 0.0, 1 - 1e-9))
