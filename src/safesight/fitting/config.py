"""The settings that every defense has."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["DefenseConfig"]


class DefenseConfig(BaseModel):
    """Settings of a defense. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_use: ClassVar[frozenset[str]] = frozenset({"enabled"})
    """Fields that may differ from those an artifact was fitted with."""

    enabled: bool = True
    """False leaves the model untouched, bit for bit. Source: ours."""
