"""What a defense tells the contract suite, so that the suite need not know any defense by name.

The suite (`tests/contracts`) tests every registered defense on tiny models with random weights:
four decoder blocks of width 32 that produce no meaningful text. Read next: `base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ONE_STEP", "Contract"]


@dataclass(frozen=True)
class Contract:
    """How a defense is tested on tiny models. The defaults suit most defenses.

    Example:
        >>> Contract(settings={"layer": 2}, zero={"strength": 0.0}).draws
        False
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings with which it visibly acts on such a model, quickly."""
    zero: Mapping[str, Any] | None = None
    """Extra settings with which it does all its work and changes nothing. None if there are none:
    a defense that rewrites prompts always changes something. Detectors and weight changes need none
    either: the suite raises their thresholds and zeroes their tensors."""
    fitted: Mapping[str, Any] = field(default_factory=dict)
    """Values that replace fitted ones that would have no visible effect. A detector's `threshold`
    needs no entry: the suite sets it between the scores of its prompts."""
    draws: bool = False
    """Whether a fit with another seed gives another artifact. A fit that draws at random may still
    say False: with the suite's few samples, every draw may give the same values."""


ONE_STEP = Contract(
    # One small step: a random model changed too much writes image placeholders.
    settings={
        "max_steps": 1,
        "batch_size": 2,
        "rank": 2,
        "modules": ("mlp.down_proj",),
        "learning_rate": 0.002,
        "warmup": 0.0,
    },
    draws=True,
)
"""For training methods, whose settings extend `training.config.TuningConfig`."""
