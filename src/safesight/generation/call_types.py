"""The two nouns of a generation: what `generate` is called with, and `generate` itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Generate", "Inputs"]

Inputs = dict[str, Any]
"""The keyword arguments of one `generate` call: tensors of the prompt and settings."""

Generate = Callable[..., Any]
"""`generate(**inputs)` of the model, with everything further out already done."""
