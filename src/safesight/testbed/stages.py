"""The stages of the bundled VLM's training, and their settings; `train` says what each is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from safesight.testbed.curriculum import (
    lengthy_dialogue,
    picture_dialogue,
    reading_dialogue,
    reminding_dialogue,
    settling_dialogue,
    sight_dialogue,
    text_dialogue,
)
from safesight.testbed.dialogues import Lesson
from safesight.testbed.styles import STYLES, drawn

__all__ = ["EYE", "LANGUAGE", "RESTYLING", "STAGES", "Stage", "restyling"]

EYE = ("model.vision_tower.", "model.multi_modal_projector.")
LANGUAGE = ("model.language_model.", "lm_head.")
"""Prefixes of parameter names."""


@dataclass(frozen=True)
class Stage:
    """One Trainer run."""

    name: str
    dialogue: Lesson
    steps: int
    batch_size: int
    learning_rate: float
    trained: tuple[str, ...] = ("",)
    """Prefixes of the parameters to train; the rest is frozen."""
    answers: bool = True
    """Whether to use the loss on answers (False: vision only, the decoder does not run)."""
    classify: float = 1.0
    """Weight of classifying each patch with a linear head on the vision tower. The head is
    discarded afterwards; it only speeds up learning from scratch."""
    guide: float = 0.0
    """Weight of teaching attention heads where to look; see `guidance`."""
    align: float = 0.5
    """Weight of the patch-to-word alignment."""
    temperature: float = 0.07
    """Temperature of the alignment: with a small one, small differences between words suffice."""
    cap: float = 1.0
    """Visual tokens with a higher cosine to their own word are pushed back. Tokens that look
    like words to the language model are also refused like words."""
    push: float = 10.0
    """Weight of the excess over the cap; a sharper contrastive term pulls harder against it."""
    norm: float = 0.5
    """Weight of the pull of visual tokens toward the norm of words."""
    tool_every: int | None = None
    styles: tuple[str, ...] = ()
    """Styles to draw things in, with small variations; none: as the lessons draw them."""


# A sharp contrast (a small temperature) teaches the vision tower to read but leaves its tokens far
# from words. A soft one then brings them close, so that the language model learns to read them in
# a few hundred steps. Tokens that close would eventually be refused like words. So `settle` moves
# them away again, to where they are still read but no longer refused.
STAGES = (
    Stage("text", text_dialogue, 800, 64, 2e-3, guide=0.3),
    Stage("reading", reading_dialogue, 500, 48, 2e-3, guide=0.1),
    Stage(
        "sight",
        sight_dialogue,
        2200,
        32,
        1e-3,
        EYE,
        answers=False,
        temperature=0.03,
        cap=0.6,
    ),
    Stage("align", sight_dialogue, 600, 32, 1e-3, EYE, answers=False, cap=0.6),
    Stage("pictures", picture_dialogue, 800, 32, 8e-4, guide=0.1, cap=0.6, tool_every=12),
    Stage(
        "remind",
        reminding_dialogue,
        150,
        32,
        3e-4,
        LANGUAGE,
        classify=0.0,
        guide=0.1,
        align=0.0,
        norm=0.0,
        tool_every=2,
    ),
    Stage(
        "settle",
        settling_dialogue,
        550,
        32,
        5e-4,
        EYE,
        temperature=0.03,
        cap=0.10,
        push=100.0,
        tool_every=12,
    ),
    Stage(
        "tools",
        lengthy_dialogue,
        200,
        32,
        3e-4,
        LANGUAGE,
        classify=0.0,
        guide=0.1,
        align=0.0,
        norm=0.0,
        tool_every=2,
    ),
)

_SETTLE = next(stage for stage in STAGES if stage.name == "settle")
RESTYLING = (
    Stage(
        "restyle",
        sight_dialogue,
        1200,
        32,
        1e-3,
        EYE,
        answers=False,
        temperature=_SETTLE.temperature,
        cap=_SETTLE.cap,
        push=_SETTLE.push,
    ),
    _SETTLE,
)
"""Stages that teach a trained eye further styles."""


def restyling(styles: Sequence[str]) -> tuple[Stage, ...]:
    """The stages of `RESTYLING`, drawn in the styles of the weights and in these.

    Raises:
        UnknownNameError: there is no such style.
    """
    for style in styles:
        drawn(style)  # reads the sheet: better now than in the middle of the first batch
    return tuple(replace(stage, styles=(*STYLES, *styles)) for stage in RESTYLING)
