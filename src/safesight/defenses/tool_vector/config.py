"""Settings of the tool vector."""

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
    """Whether the shift is put in or taken out. Source: paper, interventions in its abstract."""
    vector: Vector = "tool"
    """The tool's shift, or a control: that of the text alone, that of the picture alone, the part
    orthogonal to the refusal vector, a random vector of equal length. Source: ours."""
    layer: int | None = Field(None, ge=0)
    """The block; None lets the fit choose. Source: ours."""
    strength: float = Field(1.0, ge=0, le=10, allow_inf_nan=False)
    """1 is the shift as long as it was. Source: ours."""
    reach: Literal["layer", "onward"] = "layer"
    """At the block alone, or at every block from it on. Source: ours."""
    random_seed: int = Field(0, ge=0)
    """Of the random vector. Source: ours."""
    pairs: Literal["all", "harmful", "benign"] = "all"
    """The samples the shift is a mean over. Source: ours."""
    validation: float = Field(0.25, gt=0, lt=1)
    """The share of samples that only choose the block. Source: ours."""
    max_rise: float = Field(0.02, ge=0, le=1)
    """Most that benign refusals may rise there. Source: ours."""
    answer_tokens: int = Field(32, ge=1)
    """Of an answer there. Source: ours."""
    batch_size: int = Field(16, ge=1)
    """Prompts a forward during a fit. Source: ours."""
