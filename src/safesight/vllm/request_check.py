"""What a request may say about its defenses; a wrong one is refused with HTTP status 400."""

from __future__ import annotations

from typing import Any

__all__ = ["check_request"]

_VALUES = ("on", "off")


def check_request(params: Any, *, may_turn_off: bool) -> None:
    """Refuse a request that turns its defenses off where that is not allowed.

    Args:
        params: vLLM's `SamplingParams`.
        may_turn_off: Whether the operator allows it.

    Raises:
        ValueError: it asks for what it may not have; vLLM makes an error of the client of it.
    """
    wanted = (getattr(params, "extra_args", None) or {}).get("safesight", "on")
    if wanted not in _VALUES:
        raise ValueError(f"safesight can be 'on' or 'off' for a request, not {wanted!r:.40}.")
    if wanted == "off" and not may_turn_off:
        raise ValueError(
            "This server does not let a request turn its defenses off. Leave out safesight."
        )
