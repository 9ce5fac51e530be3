"""Evaluation on Inspect AI: a batched provider, tasks, scorers, resumable runs, log reading.

Read next: `run` (an evaluation from Python), `provider` (how Inspect reaches `hosting`),
`tasks` (the questions), `logs` and `answers` (reading answers back). Only this
package imports `inspect_ai`. Names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from safesight.extras import need

if TYPE_CHECKING:
    from safesight.evals.answers import Answer
    from safesight.evals.graded import GradedJudge
    from safesight.evals.logs import read_answers, skipped
    from safesight.evals.run import run_eval

_HOME = {
    "Answer": "safesight.evals.answers",
    "GradedJudge": "safesight.evals.graded",
    "read_answers": "safesight.evals.logs",
    "run_eval": "safesight.evals.run",
    "skipped": "safesight.evals.logs",
}

__all__ = ["Answer", "GradedJudge", "read_answers", "run_eval", "skipped"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'safesight.evals' has no attribute {name!r}")
    need("inspect_ai", "eval", "An evaluation")
    return getattr(import_module(_HOME[name]), name)
