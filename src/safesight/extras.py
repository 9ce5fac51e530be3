"""What is said where a part of safesight is used that was not installed with it.

`pyproject.toml` has the extras and what each of them brings.
"""

from __future__ import annotations

from importlib.util import find_spec

from safesight.errors import MissingExtraError

__all__ = ["need"]


def need(module: str, extra: str, what: str) -> None:
    """Say in one sentence what is missing, before its import fails.

    Args:
        module: What will be imported.
        extra: The extra of safesight that brings it.
        what: What needs it, to begin the sentence with.

    Raises:
        MissingExtraError: it is not installed.

    Example:
        >>> need("torch", "all", "Everything")
    """
    if find_spec(module) is None:
        raise MissingExtraError(what, module, extra)
