"""The settings that every defense has."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["DefenseConfig"]


class DefenseConfig(BaseModel):
    """Settings of a defense. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_use: ClassVar[frozenset[str]] = frozenset({"strength"})
    """Fields that may differ from those an artifact was fitted with."""

    strength: Literal[0, 1] = 1
    """0 is the untouched model, bit for bit. Source: ours."""
