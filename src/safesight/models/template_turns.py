"""Turns as a chat template takes them: lists of parts, or one text each.

Conversations are lists of parts here, which is what templates of VLMs read. Some read them in the
user's turns only: Pixtral's joins what the system or the assistant says to a text and fails at a
list, Llama 3.2's writes the list itself into the prompt. Which turns such a template wants as one
text shows in what it renders of a conversation of the same shape.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from jinja2 import TemplateError

__all__ = ["TEMPLATE_ERRORS", "rendered", "template_turns"]

TEMPLATE_ERRORS = (ValueError, TypeError, LookupError, AttributeError, TemplateError)
"""What a template may raise at a conversation that it does not take."""
_PROBE = "x7q"
"""A text that no template contains."""
_WRITTEN_OUT = re.compile(rf"""["']text["']: ?["']{_PROBE}""")
"""A part that was written into the prompt as Python or JSON spells it."""
_REFUSED = -1

Turns = Sequence[dict[str, Any]]


def template_turns(processor: Any, conversation: Turns, **settings: Any) -> list[dict[str, Any]]:
    """The conversation, with the turns as one text that the template does not read as parts.

    Args:
        processor: A processor or a tokenizer with its chat template.
        conversation: Turns whose content is a list of parts.
        settings: What else the template is given, such as `tools`.

    Returns:
        The turns themselves, wherever no other form shows more of their texts.
    """
    texts = [turn for turn in conversation if _is_text(turn)]
    best, most = frozenset[str](), _REFUSED
    for roles in _candidates({str(turn["role"]) for turn in texts}):
        shown = _shown(processor, _joined(_probed(conversation), roles), settings)
        if shown > most:
            best, most = roles, shown
        if most >= sum(len(turn["content"]) for turn in texts):
            break
    return _joined(conversation, best)


def rendered(processor: Any, conversation: Turns) -> str | None:
    """The prompt as one text; None if the template refuses the conversation."""
    try:
        turns = template_turns(processor, conversation)
        return str(processor.apply_chat_template(turns, tokenize=False))
    except TEMPLATE_ERRORS:
        return None


def _candidates(roles: Collection[str]) -> Iterator[frozenset[str]]:
    """Roles whose turns become one text: nobody's, then all but the user's, then everybody's."""
    yield frozenset()
    yield frozenset(roles) - {"user"}
    yield frozenset(roles)


def _is_text(turn: dict[str, Any]) -> bool:
    parts = turn["content"]
    return isinstance(parts, list) and bool(parts) and all(p["type"] == "text" for p in parts)


def _probed(conversation: Turns) -> list[dict[str, Any]]:
    """The same shape, with a probe for each part of the turns that hold nothing but text."""
    probe = {"type": "text", "text": _PROBE}
    return [
        {**turn, "content": [probe] * len(turn["content"])} if _is_text(turn) else turn
        for turn in conversation
    ]


def _joined(conversation: Turns, roles: Collection[str]) -> list[dict[str, Any]]:
    """These roles' turns as one text each; the parts follow one another as in a list."""
    return [
        {**turn, "content": "".join(part["text"] for part in turn["content"])}
        if turn["role"] in roles and _is_text(turn)
        else turn
        for turn in conversation
    ]


def _shown(processor: Any, conversation: Turns, settings: dict[str, Any]) -> int:
    """The number of probes in the prompt; less than none if there is no prompt, or a wrong one."""
    try:
        found = processor.apply_chat_template(list(conversation), tokenize=False, **settings)
    except TEMPLATE_ERRORS:
        return _REFUSED
    return _REFUSED if _WRITTEN_OUT.search(str(found)) else str(found).count(_PROBE)
