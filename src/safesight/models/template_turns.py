"""Turns as a chat template takes them: lists of parts, or one text each.

Conversations are lists of parts here, which is what templates of VLMs read, each in its own way.
Pixtral's joins what the system or the assistant says to a text and fails at a list, and earlier
versions of it look for a text under another name. Llama 3.2's writes the system's list into the
prompt as Python spells it. Gemma 3's reads the first part of such a list only. Which form a
template shows whole is seen from what it renders of a conversation of the same shape.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

__all__ = ["PROBE", "TEMPLATE_ERRORS", "left_out", "rendered", "template_turns"]

TEMPLATE_ERRORS = (ValueError, TypeError, LookupError, AttributeError, TemplateError)
"""What a template may raise at a conversation that it does not take."""
PROBE = "x7q"
"""A text that no template contains."""
_OTHER = "y"
"""A text in place of one that is not looked for."""
_TELLING = ("system", "user")
_SPELLED_OUT = re.compile(rf"""["'](?:text|content)["']: ?["']{PROBE}""")
"""A part that was written into the prompt as Python or JSON spells it."""
_REFUSED = -1

Turns = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class _Form:
    """How turns are put to a template; as they are, unless told otherwise."""

    texts: Collection[str] = ()
    """Roles whose turns become one text, if they hold nothing but text."""
    merged: bool = False
    """Whether such turns of the others become a single part."""
    named: bool = False
    """Whether a part has its text under `content`, too."""

    def of(self, conversation: Turns) -> list[dict[str, Any]]:
        """The conversation in this form."""
        return [self._turn(turn) for turn in conversation]

    def _turn(self, turn: dict[str, Any]) -> dict[str, Any]:
        parts = turn["content"]
        if all("text" in part for part in parts):
            whole = "".join(part["text"] for part in parts)
            if turn["role"] in self.texts:
                return {**turn, "content": whole}
            parts = [{"type": "text", "text": whole}] if self.merged and parts else parts
        if self.named:
            parts = [{**p, "content": p["text"]} if "text" in p else p for p in parts]
        return {**turn, "content": parts}


def template_turns(processor: Any, conversation: Turns, **settings: Any) -> list[dict[str, Any]]:
    """The conversation in the form that shows most of its texts; as it is, if that shows all.

    Args:
        processor: A processor or a tokenizer with its chat template.
        conversation: Turns whose content is a list of parts.
        settings: What else the template is given, such as `tools`.
    """
    return _best(processor, conversation, settings)[0].of(conversation)


def left_out(processor: Any, conversation: Turns) -> bool:
    """Whether the prompt lacks a text of the system or the user in every form.

    What an assistant says beside a call of a tool is left out by some templates, and may be.
    """
    shown = _best(processor, conversation, {}, _TELLING)[1]
    return shown != _REFUSED and shown < _probes(_probed(conversation, _TELLING))


def rendered(processor: Any, conversation: Turns) -> str | None:
    """The prompt as one text; None if the template refuses the conversation."""
    try:
        turns = template_turns(processor, conversation)
        return str(processor.apply_chat_template(turns, tokenize=False))
    except TEMPLATE_ERRORS:
        return None


def _best(
    processor: Any, conversation: Turns, settings: dict[str, Any], roles: Collection[str] = ()
) -> tuple[_Form, int]:
    """The form that shows most texts of these roles, or of all; and their number."""
    probed = _probed(conversation, roles)
    best, most = _Form(), _REFUSED
    for form in _forms({str(turn["role"]) for turn in conversation}):
        shown = _shown(processor, form.of(probed), settings)
        if shown > most:
            best, most = form, shown
        if most >= _probes(probed):
            break
    return best, most


def _forms(roles: Collection[str]) -> Iterator[_Form]:
    for named in (False, True):
        yield _Form(named=named)
        yield _Form(merged=True, named=named)
        yield _Form({*roles} - {"user"}, named=named)
        yield _Form({*roles}, named=named)


def _probed(conversation: Turns, roles: Collection[str] = ()) -> list[dict[str, Any]]:
    """The same shape, with a probe for each text of these roles, or of all, that is not blank."""

    def part(found: dict[str, Any], told: bool) -> dict[str, Any]:
        blank = not found.get("text", "").strip()
        return found if blank else {**found, "text": PROBE if told else _OTHER}

    return [
        {
            **turn,
            "content": [part(each, not roles or turn["role"] in roles) for each in turn["content"]],
        }
        for turn in conversation
    ]


def _probes(probed: Turns) -> int:
    return sum(part.get("text") == PROBE for turn in probed for part in turn["content"])


def _shown(processor: Any, conversation: Turns, settings: dict[str, Any]) -> int:
    """The number of probes in the prompt; less than none if there is no prompt, or a wrong one."""
    try:
        found = processor.apply_chat_template(list(conversation), tokenize=False, **settings)
    except TEMPLATE_ERRORS:
        return _REFUSED
    return _REFUSED if _SPELLED_OUT.search(str(found)) else str(found).count(PROBE)
