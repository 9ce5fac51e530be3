"""What a chat template makes of a conversation: which roles it knows, and no token beside its own.

A template may write marks around the role or the text of a message: "<|" before it and "|>" after
it. A role or a text that holds no control token then becomes one. Other templates read every role
that they do not know as the user's, or leave its turn out. Both show in what the template renders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from safesight.errors import InputError
from safesight.models.template_turns import PROBE, left_out, rendered

__all__ = ["check_template"]

_STANDARD = ("user", "assistant", "system")
_WITH_TOOLS = ("tool", "developer")
"""Roles that templates write marks of their own for."""
_NOBODY = "nobody"
"""A role that no template knows and that is part of no control token."""


def check_template(
    processor: Any, conversation: Sequence[dict[str, Any]], special: re.Pattern[str]
) -> None:
    """Refuse what the chat template would make something else of.

    Args:
        processor: With its chat template.
        conversation: As `ControlTokens.clean` leaves it.
        special: The control tokens.

    Raises:
        InputError: a role that the template does not know, a text that it leaves out, or a role
            or a text that becomes a control token.
    """
    for role in {str(message["role"]) for message in conversation}.difference(_STANDARD):
        if not _knows(processor, role):
            raise InputError(
                f"The chat template of this model does not know the role {role!r}. "
                "Use user, assistant or system."
            )
        renamed = [_as(m, _NOBODY) if m["role"] == role else m for m in conversation]
        if role not in _WITH_TOOLS and _adds(processor, renamed, conversation, special):
            raise InputError(
                f"The chat template of this model makes a control token of the role {role!r}. "
                "Use user, assistant or system."
            )
    if left_out(processor, conversation):
        raise InputError(
            "The chat template of this model leaves out a text of this conversation. Put what the "
            "system says into the user's turn, or shorten the conversation to that turn."
        )
    plain = [{**message, "content": _plain(message["content"])} for message in conversation]
    if _adds(processor, plain, conversation, special):
        raise InputError(
            "A text becomes a control token together with the marks that the chat template puts "
            "around it. Reword its beginning or its end."
        )


def _knows(processor: Any, role: str) -> bool:
    """Whether a template names a role, or treats it otherwise than the standard ones.

    A template that refuses it says so itself, with a reason.
    """
    template = str(processor.chat_template)
    if f"'{role}'" in template or f'"{role}"' in template:
        return True
    turn = {"role": role, "content": [{"type": "text", "text": PROBE}]}
    for before in ([], [_as(turn, "user")]):
        found = rendered(processor, [*before, turn])
        others = [rendered(processor, [*before, _as(turn, other)]) for other in _STANDARD]
        if found is not None and (found in others or found.count(PROBE) <= len(before)):
            return False
    return True


def _as(message: dict[str, Any], role: str) -> dict[str, Any]:
    return {**message, "role": role}


def _plain(content: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**part, "text": "x"} if "text" in part else part for part in content]


def _adds(
    processor: Any,
    plain: Sequence[dict[str, Any]],
    conversation: Sequence[dict[str, Any]],
    special: re.Pattern[str],
) -> bool:
    """Whether a conversation has more control tokens than a plain one of the same shape."""
    least, found = (rendered(processor, each) for each in (plain, conversation))
    if least is None or found is None:
        return False
    return len(special.findall(found)) > len(special.findall(least))
