"""Registers the provider, the tasks and the scorer with Inspect, under the name `safesight`.

Loaded through this package's entry point `inspect_ai`. It does not load torch; the provider
does, when a model is requested.
"""

from __future__ import annotations

from inspect_ai.model import ModelAPI, modelapi

from safesight.evals.scorers import (
    attack_success_rate,
    broken_rate,
    grouped_utility,
    invalid_rate,
    over_refusal_rate,
    refusal_rate,
    utility,
    verdict,
)
from safesight.evals.tasks import register_tasks

__all__ = [
    "TASKS",
    "attack_success_rate",
    "broken_rate",
    "grouped_utility",
    "invalid_rate",
    "over_refusal_rate",
    "refusal_rate",
    "safesight",
    "utility",
    "verdict",
]


@modelapi(name="safesight")
def safesight() -> type[ModelAPI]:
    """`--model safesight/testbed`, `safesight/<folder>`, `safesight/<hub id>`."""
    from safesight.evals.provider import SafesightAPI

    return SafesightAPI


TASKS = register_tasks()
