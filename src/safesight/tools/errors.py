"""What a tool says when it cannot do what it was asked: text for the model, not for a person."""

from __future__ import annotations

__all__ = ["ToolError"]


class ToolError(Exception):
    """A call that cannot be run; its message goes back to the model that wrote the call."""
