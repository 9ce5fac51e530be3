"""Rates, intervals and paired changes, computed in one place for every scorecard and experiment.

Numbers in, numbers out: nothing here knows about models, logs or files. Read next:
`verdicts` (which answers count in which rate), `rates` and `areas` (intervals), `pairs` (changes
over the same samples), `bootstrap` (resampling).
"""

from __future__ import annotations

from safesight.stats.bootstrap import mean_interval
from safesight.stats.pairs import (
    PairedDifference,
    holm,
    median_ratio,
    paired_difference,
    relative_reduction,
)
from safesight.stats.rates import LEVEL, Interval, wilson
from safesight.stats.verdicts import (
    HOW_TO,
    METRICS,
    Hit,
    Judgement,
    Metric,
    MetricName,
    Rate,
    both_judged,
    share_of,
)

__all__ = [
    "HOW_TO",
    "LEVEL",
    "METRICS",
    "Hit",
    "Interval",
    "Judgement",
    "Metric",
    "MetricName",
    "PairedDifference",
    "Rate",
    "both_judged",
    "holm",
    "mean_interval",
    "median_ratio",
    "paired_difference",
    "relative_reduction",
    "share_of",
    "wilson",
]
