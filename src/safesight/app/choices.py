"""The defenses that a visitor can choose: those that run on this model as it is.

A defense that needs a fit is offered if its artifact was given or comes with the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from safesight import registry
from safesight.defenses.check import require
from safesight.errors import ArtifactError, InputError, ModelError, PluginError
from safesight.grammar import UNDEFENDED
from safesight.hosting.arms import Arm, artifacts_for, build_arm

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["FIRST", "offered"]

FIRST = ("sasa", "rai")
"""What is chosen at first, where it runs and nothing else was named."""


def offered(
    vlm: VLM, wanted: Sequence[str] | None, artifacts: Mapping[str, Path]
) -> tuple[dict[str, Arm], list[str]]:
    """The arms that can be chosen, and those that are chosen at first.

    Args:
        vlm: The model.
        wanted: Arms that have to run, such as "sasa" or "safety_prompt+sasa"; None for `FIRST`.
        artifacts: Defense to the folder of its artifact.

    Raises:
        ArtifactError: a wanted arm lacks its artifact, or an artifact is of another model.
        ModelError: the model fails the self-check of a wanted arm.
    """
    arms = {UNDEFENDED: build_arm(vlm, UNDEFENDED)}
    for name in wanted or ():
        arms[name] = _checked(vlm, name, artifacts)
    for name in registry.names("defense"):
        if name in arms:
            continue
        if name in artifacts:
            arms[name] = _checked(vlm, name, artifacts)
        with suppress(ArtifactError, InputError, ModelError, PluginError):
            arms.setdefault(name, _checked(vlm, name, artifacts))
    chosen = [name for name in wanted or FIRST if name in arms]
    return arms, chosen or list(arms)[1:2]


def _checked(vlm: VLM, name: str, artifacts: Mapping[str, Path]) -> Arm:
    arm = build_arm(vlm, name, artifacts_for(name, artifacts))
    for defense, _ in arm.defenses:
        require(vlm, defense.kind)
    return arm
