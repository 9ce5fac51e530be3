"""The error for a part of safesight whose optional dependency is not installed.

`pyproject.toml` lists the extras and the packages in each.
"""

from __future__ import annotations

from importlib.util import find_spec

from safesight.errors import MissingExtraError

__all__ = ["need"]


def need(module: str, extra: str, what: str) -> None:
    """Check that a module is installed, before its import fails.

    Args:
        module: What will be imported.
        extra: The extra of safesight that installs it.
        what: What needs it, as the start of the error message.

    Raises:
        MissingExtraError: it is not installed.

    Example:
        >>> need("torch", "all", "Everything")
    """
    if find_spec(module) is None:
        raise MissingExtraError(what, module, extra)
