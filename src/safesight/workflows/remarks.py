"""What a reader of an evaluation's numbers should know about its fits and its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from safesight.fitting.facts import Facts, covers, told

if TYPE_CHECKING:
    from safesight.hosting.arms import Arm

__all__ = ["drawn", "remarks_on"]


def remarks_on(arms: Sequence[Arm], only: Facts) -> list[str]:
    """Sentences about fits that cannot be compared, or that saw what they are tested on.

    Args:
        arms: The arms of the evaluation.
        only: Facts of the samples that are asked; empty for all.
    """
    return [*_unlike_controls(arms), *_seen(arms, only)]


def drawn(temperature: float, seed: int) -> list[str]:
    """A sentence if the answers are not greedy.

    Example:
        >>> drawn(0.0, seed=0)
        []
    """
    if not temperature:
        return []
    return [
        f"The answers are drawn at temperature {temperature:g}, with seeds that follow from "
        f"{seed}, the sample and the try."
    ]


def _unlike_controls(arms: Sequence[Arm]) -> Iterator[str]:
    """A sentence for each control that was fitted on different data than its arm."""
    from safesight.compare import control_of

    fitted_on = {
        arm.name: {
            artifact.card.get("data", {}).get("hash") for _, artifact in arm.defenses if artifact
        }
        for arm in arms
    }
    for name, data in fitted_on.items():
        control = control_of(name)
        if control is not None and fitted_on.get(control, data) != data:
            yield (
                f"The control arm {control} was fitted on different data than {name}. To compare "
                "them, fit both on the same data and pass both with --artifact."
            )


def _seen(arms: Sequence[Arm], only: Facts) -> Iterator[str]:
    """A sentence for each fit that saw what it is tested on, or is tested on more than that."""
    fits = {
        defense.name: artifact.card.get("data", {}).get("held_out", {})
        for arm in arms
        for defense, artifact in arm.defenses
        if artifact is not None
    }
    for name, held_out in fits.items():
        if only and not covers(held_out, only):
            yield (
                f"{name} was fitted with samples of {told(only)}, so these rates are not about "
                "things it has not seen. Fit it with --hold-out, and pass it with --artifact."
            )
        elif held_out and not only:
            yield (
                f"{name} was fitted without {told(held_out)}, but is asked about other samples as "
                "well. Add --only with the same facts to see what it does on what it never saw."
            )
