"""The settings of the tool vector."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from safesight.fitting.config import DefenseConfig

__all__ = ["ToolVectorConfig"]

Vector = Literal["tool", "text_trace", "crop_no_call", "orthogonal", "random"]


class ToolVectorConfig(DefenseConfig):
    """Settings of the tool vector."""

    at_use: ClassVar[frozenset[str]] = frozenset(
        {"enabled", "mode", "vector", "layer", "strength", "reach", "random_seed", "batch_size"}
    )

    mode: Literal["add", "ablate"] = "add"
    """Whether to add or ablate the shift. Source: paper, interventions in its abstract."""
    vector: Vector = "tool"
    """The tool's shift, or a control: the shift of the call's text alone or of the picture alone,
    the part orthogonal to the refusal vector, or a random vector of equal length. Source: ours."""
    layer: int | None = Field(None, ge=0)
    """The block; None lets the fit choose. Source: ours."""
    strength: float = Field(1.0, ge=0, le=10, allow_inf_nan=False)
    """Multiplier of the shift. Source: ours."""
    reach: Literal["layer", "onward"] = "layer"
    """Act at the block only, or also at every later block. Source: ours."""
    random_seed: int = Field(0, ge=0)
    """Seed for the random vector. Source: ours."""
    pairs: Literal["all", "harmful", "benign"] = "all"
    """The samples averaged into the shift. Source: ours."""
    validation: float = Field(0.25, gt=0, lt=1)
    """Share of samples held out to choose the block. Source: ours."""
    max_rise: float = Field(0.02, ge=0, le=1)
    """Maximum rise in benign refusals when choosing the block. Source: ours."""
    answer_tokens: int = Field(32, ge=1)
    """Maximum length of an answer when choosing the block. Source: ours."""
    judge: str | None = None
    """Judge that counts refusals when choosing the block. None: `exact` for the
    bundled model, `rules` for any other. Source: ours."""
    batch_size: int = Field(16, ge=1)
    """Prompts per forward pass during a fit. Source: ours."""
