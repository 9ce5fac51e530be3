"""Rates, intervals and paired changes, computed in one place for every scorecard and experiment.

Numbers in, numbers out: nothing here knows about models, logs or files. Read next:
`verdicts` (which answers count in which rate), `rates`, `means` and `areas` (intervals), `pairs`
(changes over the same samples), `corrected` (rates without the errors of a judge), `clusters`
(samples that come in groups), `bootstrap` (resampling).
"""

from __future__ import annotations

from safesight.stats.clusters import Clusters, clusters_of, design_effect, sign_flips
from safesight.stats.corrected import Corrected, JudgeErrors, corrected_rate, rogan_gladen
from safesight.stats.means import mean_interval
from safesight.stats.pairs import (
    PairedDifference,
    Ratio,
    holm,
    median_ratio,
    paired_difference,
    relative_reduction,
)
from safesight.stats.rates import ALPHA, LEVEL, Interval, wilson
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
    "ALPHA",
    "HOW_TO",
    "LEVEL",
    "METRICS",
    "Clusters",
    "Corrected",
    "Hit",
    "Interval",
    "JudgeErrors",
    "Judgement",
    "Metric",
    "MetricName",
    "PairedDifference",
    "Rate",
    "Ratio",
    "both_judged",
    "clusters_of",
    "corrected_rate",
    "design_effect",
    "holm",
    "mean_interval",
    "median_ratio",
    "paired_difference",
    "relative_reduction",
    "rogan_gladen",
    "share_of",
    "sign_flips",
    "wilson",
]
