"""The error of a tool that cannot do what it was asked: text for the model, not for a person."""

from __future__ import annotations

__all__ = ["ToolError"]


class ToolError(Exception):
    """A call cannot be run; the message goes back to the model that wrote the call."""
