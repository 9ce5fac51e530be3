"""Two types: the arguments of a `generate` call, and `generate` itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Generate", "Inputs"]

Inputs = dict[str, Any]
"""The keyword arguments of one `generate` call: prompt tensors and settings."""

Generate = Callable[..., Any]
"""`generate(**inputs)` of the model, with the outer layers of protection already applied."""
