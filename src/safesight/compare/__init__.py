"""From judged answers to a scorecard: rates, intervals, paired changes, overhead.

Draws nothing, and runs a model only to time it: that is `overhead.py`, which
loads torch and is therefore imported by its own name. Start at `counting.py`.
"""

from __future__ import annotations

from safesight.compare.counting import control_of, metrics_of, scorecard
from safesight.compare.families import by_family
from safesight.compare.pooling import pooled_tasks
from safesight.compare.records import (
    Adaptive,
    BestOf,
    CorrectedRate,
    Delta,
    Overhead,
    Provenance,
    Row,
    Scorecard,
    SearchCurve,
    VerdictCounts,
)
from safesight.compare.tries import REPEAT, plain_task

__all__ = [
    "REPEAT",
    "Adaptive",
    "BestOf",
    "CorrectedRate",
    "Delta",
    "Overhead",
    "Provenance",
    "Row",
    "Scorecard",
    "SearchCurve",
    "VerdictCounts",
    "by_family",
    "control_of",
    "metrics_of",
    "plain_task",
    "pooled_tasks",
    "scorecard",
]
