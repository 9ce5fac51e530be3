"""The stages of the training of `testbed-smol`; `train` says what each is for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from safesight.testbed.curriculum import sight_dialogue
from safesight.testbed.smol import instructions, safety
from safesight.testbed.smol.answering import OwnAnswers
from safesight.testbed.smol.architecture import EYE
from safesight.testbed.smol.build import EYE_FILE
from safesight.testbed.smol.lessons import speaking
from safesight.testbed.stages import Stage
from safesight.testbed.styles import FURTHER, MORE, STYLES

__all__ = ["ADAPTER", "STAGES", "SmolStage"]

ADAPTER = "lora_"
"""Part of the names of an adapter's parameters."""
_WHOLE = (*STYLES, *MORE)
"""Styles that draw nearly all things."""
_WRITING = "o_proj|down_proj"
"""Layers that write to the states."""


@dataclass(frozen=True)
class SmolStage(Stage):
    """One Trainer run."""

    near: float = 0.0
    """Weight of the distance between visual tokens and the words for what they show."""
    rank: int = 0
    """Rank of the adapter that the stage trains on the language model; 0: it trains parameters."""
    layers: str = ""
    """The layers that get it, a regular expression."""
    window: int = 8
    """Number of batches that are sorted by length together, as in `Stream`."""
    own: OwnAnswers | None = None
    """Its lessons in place of `dialogue`, if they are made of the model's own answers."""

    plain: int = 0
    """Number of plain texts in each batch that are kept as the untouched language model writes."""

    @property
    def file(self) -> str:
        """The file that it is shipped in."""
        return f"{self.name}.safetensors" if self.rank else EYE_FILE


_SPEAK = SmolStage(
    "speak",
    speaking,
    600,
    16,
    6e-4,
    classify=0.0,
    align=0.0,
    norm=0.0,
    styles=(*_WHOLE, *FURTHER),
    rank=16,
    layers=r"\w+_proj",
    own=OwnAnswers(instructions.asked, instructions.lessons_of, 2500),
)

STAGES = (
    SmolStage(
        "safety",
        speaking,
        500,
        16,
        6e-4,
        classify=0.0,
        align=0.0,
        norm=0.0,
        rank=16,
        layers=_WRITING,
        window=1,  # sorted, a batch would hold refusals alone, or none
        own=OwnAnswers(safety.answered_requests, safety.lessons_of, 3000),
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
    _SPEAK,
    replace(
        _SPEAK,
        name="recall",
        steps=200,
        batch_size=8,
        layers=_WRITING,
        own=OwnAnswers(instructions.asked, instructions.lessons_of, 800),
        plain=8,
    ),
)
