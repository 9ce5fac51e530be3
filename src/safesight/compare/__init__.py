"""From judged answers to a scorecard: rates, intervals, paired changes, overhead.

Draws nothing, and runs a model only to time it: that is `overhead.py`, which
loads torch and is therefore imported by its own name. Start at `scorecard.py`.
"""

from __future__ import annotations

from safesight.compare.records import (
    Delta,
    MetricName,
    Overhead,
    Provenance,
    Row,
    Scorecard,
    VerdictCounts,
)
from safesight.compare.scorecard import METRICS, Metric, control_of, scorecard

__all__ = [
    "METRICS",
    "Delta",
    "Metric",
    "MetricName",
    "Overhead",
    "Provenance",
    "Row",
    "Scorecard",
    "VerdictCounts",
    "control_of",
    "scorecard",
]
