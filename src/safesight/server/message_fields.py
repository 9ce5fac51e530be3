"""Fields and parts of a message: what is served, what changes nothing, and what is refused.

A client that sends a field relies on it. Refused is what would have an effect elsewhere, such as
`prefix`, which begins an answer; accepted is what clients echo back from an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safesight.server.refusals import RequestError

__all__ = ["check_message"]

_FIELDS = frozenset(
    "role content tool_calls tool_call_id name refusal annotations cache_control".split()
)
"""Those of a message; from `name` on, they change nothing."""
_PART_FIELDS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"text"}),
    "refusal": frozenset({"refusal"}),
    "image_url": frozenset({"image_url"}),
}
"""Those of a part, by its type."""
_CACHING = frozenset({"type", "cache_control", "prompt_cache_breakpoint"})
"""Those of any part; all but `type` change nothing."""
_PARTS: Mapping[str, tuple[str, ...]] = {
    "user": ("text", "image_url"),
    "assistant": ("text", "refusal"),
}
"""The types of parts in a message of a role; in any other, text alone."""


def check_message(message: Mapping[str, Any], where: str) -> None:
    """Refuse fields and parts that are not served in a message of its role.

    Args:
        message: As a client sent it, with a role that is served.
        where: Its place in the request.

    Raises:
        RequestError: the message has one.
    """
    _check_fields(message, _FIELDS, where)
    content = message.get("content")
    for number, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, Mapping) and isinstance(part.get("type"), str):
            _check_part(part, str(message["role"]), f"{where}.content[{number}]")


def _check_part(part: Mapping[str, Any], role: str, where: str) -> None:
    kind = part["type"]
    if kind not in _PARTS.get(role, ("text",)):
        raise RequestError(
            f"A part of type {kind[:40]!r} cannot stand in a {role} message. "
            "Send text, and pictures in user messages.",
            param=where,
        )
    _check_fields(part, _PART_FIELDS[kind] | _CACHING, where)
    picture = part.get("image_url")
    if isinstance(picture, Mapping):
        _check_fields(picture, frozenset({"url", "detail"}), f"{where}.image_url")


def _check_fields(given: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for name, value in given.items():
        if name not in known and value is not None and value is not False:
            raise RequestError(
                f"The field {name[:60]!r} is not supported in {where}. Leave it out.",
                code="unsupported_parameter",
                param=f"{where}.{name[:60]}",
            )
