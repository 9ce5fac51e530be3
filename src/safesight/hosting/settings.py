"""How one answer is decoded, for every tool that asks for one.

Requests with equal settings may share a batch. Knows nothing about Inspect or models.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How one answer is decoded. Requests with equal settings may share a batch."""

    max_new_tokens: int
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
