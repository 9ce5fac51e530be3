"""The stages of the training of `testbed-smol`; `train` says what each is for."""

from __future__ import annotations

from dataclasses import dataclass

from safesight.testbed.curriculum import sight_dialogue
from safesight.testbed.smol.architecture import EYE
from safesight.testbed.smol.lessons import speaking
from safesight.testbed.stages import Stage
from safesight.testbed.styles import FURTHER, MORE, STYLES

__all__ = ["ADAPTER", "STAGES", "SmolStage"]

ADAPTER = "lora_"
"""Part of the names of an adapter's parameters."""
_WHOLE = (*STYLES, *MORE)
"""Styles that draw nearly all things."""


@dataclass(frozen=True)
class SmolStage(Stage):
    """One Trainer run."""

    near: float = 0.0
    """Weight of the distance between visual tokens and the words for what they show."""
    rank: int = 0
    """Rank of the adapter that the stage trains on the language model; 0: it trains parameters."""


STAGES = (
    SmolStage(
        "safety",
        speaking,  # in its place come the lessons of `safety`, which need the model's own answers
        500,
        16,
        6e-4,
        classify=0.0,
        align=0.0,
        norm=0.0,
        rank=16,
    ),
    SmolStage(
        "sight",
        sight_dialogue,
        12000,
        32,
        1e-3,
        EYE,
        answers=False,
        align=1.0,
        norm=0.0,
        near=0.5,
        styles=_WHOLE,
    ),
    SmolStage(
        "restyle",
        sight_dialogue,
        4000,
        32,
        5e-4,
        EYE,
        answers=False,
        align=1.0,
        norm=0.0,
        near=0.5,
        styles=(*_WHOLE, *FURTHER),
    ),
    SmolStage(
        "speak",
        speaking,
        1000,
        8,
        5e-4,
        EYE,
        classify=0.0,
        align=0.5,
        norm=0.0,
        near=0.1,
        styles=(*_WHOLE, *FURTHER),
    ),
)
