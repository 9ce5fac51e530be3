"""From judged answers to a scorecard: rates, intervals, paired changes, overhead.

Draws nothing, and runs a model only to time it: that is `overhead.py`, which
loads torch and is therefore imported by its own name. Start at `counting.py`.
"""

from __future__ import annotations

from safesight.compare.counting import control_of, metrics_of, scorecard
from safesight.compare.families import by_family
from safesight.compare.records import (
    CorrectedRate,
    Delta,
    Overhead,
    Provenance,
    Row,
    Scorecard,
    VerdictCounts,
)

__all__ = [
    "CorrectedRate",
    "Delta",
    "Overhead",
    "Provenance",
    "Row",
    "Scorecard",
    "VerdictCounts",
    "by_family",
    "control_of",
    "metrics_of",
    "scorecard",
]
