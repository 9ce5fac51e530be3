"""The threshold in an artifact: read, and replaced, whatever the defense.

A detector can be calibrated if its artifact stores a number called `threshold` and its decisions
name the same one. Its settings may hold a `threshold` that replaces the stored one, and a `max_fpr`
that the stored one was set for; nothing else is known about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from safesight.errors import InputError
from safesight.fitting.stored import is_number

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact

__all__ = ["stored_threshold", "with_threshold"]

_NAME = "threshold"


def stored_threshold(artifact: Artifact) -> float:
    """The threshold that a fit has stored.

    Raises:
        InputError: it has stored none.
    """
    found = artifact.fitted.get(_NAME)
    if not is_number(found):
        raise InputError(
            f"The {artifact.defense} artifact stores no threshold, so there is nothing to "
            "calibrate. Use a detector that sets one on benign prompts, such as sasa or probe."
        )
    return float(found)


def with_threshold(
    artifact: Artifact, threshold: float, max_fpr: float, card: Mapping[str, Any] | None = None
) -> Artifact:
    """The artifact with another stored threshold, which its settings do not replace.

    Args:
        artifact: Of a detector.
        threshold: A score; rows at or above it are refused.
        max_fpr: The rate of false refusals that it was set for.
        card: Entries of the card to replace.
    """
    about = {_NAME: None, "max_fpr": max_fpr}
    changed = {name: value for name, value in about.items() if name in artifact.config}
    return replace(
        artifact,
        config={**artifact.config, **changed},
        fitted={**artifact.fitted, _NAME: threshold},
        card={**artifact.card, **(card or {})},
    )
