"""What a defense tells the contract suite, so that the suite need not know any defense by name.

The suite (`tests/contracts`) tries every defense of the registry on tiny models with random
weights, which have no language and four decoder blocks of width 32. Read next: `base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ONE_STEP", "Contract"]


@dataclass(frozen=True)
class Contract:
    """How a defense is tried on tiny models. The default fits most.

    Example:
        >>> Contract(settings={"layer": 2}, zero={"strength": 0.0}).draws
        False
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings with which it acts on such a model, and soon."""
    zero: Mapping[str, Any] | None = None
    """Settings, on top of those, with which it does all its work and changes nothing. None if there
    are none: a defense that rewrites prompts always changes something. A detector and a change of
    weights need none either: their thresholds are raised and their tensors zeroed."""
    fitted: Mapping[str, Any] = field(default_factory=dict)
    """Numbers that replace fitted ones where those would do nothing visible. The `threshold` of a
    detector needs no entry: the suite sets it between the scores of its prompts."""
    draws: bool = False
    """Whether a fit with another seed gives another artifact. A fit that draws may still say False:
    on the suite's few samples every draw can lead to the same numbers."""


ONE_STEP = Contract(
    # One small step: far from where it was, a random model writes image placeholders.
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
"""For methods that train, with the settings of `training.config.TuningConfig`."""
