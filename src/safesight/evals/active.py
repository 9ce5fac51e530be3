"""The arm for which Inspect makes a task, known only while it does."""

from __future__ import annotations

from typing import Any

from inspect_ai.model import get_model

__all__ = ["active_api", "active_arm"]


def active_api() -> Any | None:
    """The provider of the arm a task is created for; None for other providers, and outside."""
    # Not imported, for its type: its module loads torch, which listing tasks must not.
    try:
        api: Any = get_model().api
    except ValueError:  # no model is active, as when tasks are only listed
        return None
    return None if getattr(api, "arm", None) is None else api


def active_arm() -> str | None:
    """The name of that arm.

    Example:
        >>> isinstance(active_arm(), str | None)
        True
    """
    api = active_api()
    return None if api is None else str(api.arm.name)
