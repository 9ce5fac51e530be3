"""The settings shared by all defenses."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["DefenseConfig"]


class DefenseConfig(BaseModel):
    """Settings of a defense: immutable, and unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_use: ClassVar[frozenset[str]] = frozenset({"enabled"})
    """Fields whose values may differ from those in the artifact."""

    enabled: bool = True
    """False leaves the model unchanged, bit for bit. Source: ours."""
