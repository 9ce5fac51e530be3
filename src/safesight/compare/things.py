"""What answers are about, so that intervals keep answers about the same thing together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from safesight.grammar import task_parts
from safesight.stats import Clusters, clusters_of
from safesight.types import group_of

if TYPE_CHECKING:
    from safesight.evals import Answer

__all__ = ["things_of"]


def things_of(answers: Iterable[Answer]) -> Clusters | None:
    """What answers are about. One that does not say is about its own request."""
    return clusters_of(
        group_of(a.facts, (task_parts(a.task)[0], a.facts.get("plain", a.sample_id)))
        for a in answers
    )
