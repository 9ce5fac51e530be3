"""The stages of the training of `testbed-smol`, and their settings; `train` says what each is for."""

from __future__ import annotations

from dataclasses import dataclass

from safesight.testbed.curriculum import sight_dialogue
from safesight.testbed.smol.architecture import EYE
from safesight.testbed.stages import Stage
from safesight.testbed.styles import MORE, STYLES

__all__ = ["ADAPTER", "STAGES", "SmolStage"]

ADAPTER = "lora_"
"""Part of the names of an adapter's parameters."""


@dataclass(frozen=True)
class SmolStage(Stage):
    """One Trainer run."""

    near: float = 0.0
    """Weight of the distance between visual tokens and the words for what they show."""


STAGES = (
    SmolStage(
        "sight",
        sight_dialogue,
        6000,
        32,
        1e-3,
        EYE,
        answers=False,
        align=1.0,
        norm=0.0,
        near=0.5,
        styles=(*STYLES, *MORE),
    ),
)
