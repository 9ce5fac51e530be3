"""OpenAI's messages become the conversation that a chat template takes.

Text stays text: image placeholders and control tokens in it are taken apart. Pictures may stand in
user turns only. A conversation may not end with the assistant's turn: a client that could
begin the answer could also begin it with consent.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safesight.errors import InputError
from safesight.server.refusals import RequestError
from safesight.server.workers import TEXTS
from safesight.tools.calls import CALL_END, CALL_START
from safesight.types import Message

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["conversation", "count_parts", "count_pictures", "texts_of"]

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_LAST = ("user", "tool")


async def conversation(
    messages: Sequence[Mapping[str, Any]],
    picture_of: Callable[[str], Awaitable[Image]],
    plain: Callable[[str, str], str],
) -> list[Message]:
    """The conversation of a request, with its pictures opened.

    Args:
        messages: As the protocol has them, types checked; pictures are in user messages.
        picture_of: Opens the picture that a URL stands for.
        plain: Takes the control tokens in a text apart; its first argument is the role.

    Raises:
        RequestError: a turn that no model here can take.
    """
    if not messages or messages[-1]["role"] not in _LAST:
        raise RequestError(
            "The last message must be the user's or a tool's. An answer cannot be begun for the "
            "model here.",
            param="messages",
        )
    parts = [
        [
            await _part(part, f"messages[{number}].content", picture_of)
            for part in _parts(message.get("content"))
        ]
        for number, message in enumerate(messages)
    ]
    return await TEXTS.run(_turns, messages, parts, plain)


def _turns(
    messages: Sequence[Mapping[str, Any]],
    opened: Sequence[list[dict[str, Any]]],
    plain: Callable[[str, str], str],
) -> list[Message]:
    """The turns of messages whose parts are open, with their calls written out."""
    found: list[Message] = []
    for number, (message, parts) in enumerate(zip(messages, opened, strict=True)):
        role = _ROLES[message["role"]]
        calls = [_call(call, f"messages[{number}]") for call in message.get("tool_calls") or ()]
        content = [
            {**part, "text": plain(role, part["text"])} if "text" in part else part
            for part in (*parts, *calls)
        ]
        found.append({"role": role, "content": content})
    return found


def count_pictures(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many pictures the messages of a request hold."""
    parts = [part for message in messages for part in _parts(message.get("content"))]
    return sum(part.get("type") == "image_url" for part in parts)


def texts_of(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """All texts of messages that reach the model, with the names and arguments of calls."""
    found = []
    for message in messages:
        for part in _parts(message.get("content")):
            found += [part[name] for name in ("text", "refusal") if name in part]
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            found += [function[name] for name in ("name", "arguments") if name in function]
    return found


def count_parts(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many messages, parts and calls a request has."""
    calls = sum(len(message.get("tool_calls") or ()) for message in messages)
    return len(messages) + calls + sum(len(_parts(each.get("content"))) for each in messages)


def _parts(content: Any) -> list[Mapping[str, Any]]:
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


async def _part(
    part: Mapping[str, Any],
    where: str,
    picture_of: Callable[[str], Awaitable[Image]],
) -> dict[str, Any]:
    kind = part["type"]
    if kind in ("text", "refusal"):
        return {"type": "text", "text": part[kind]}
    try:
        return {"type": "image", "image": await picture_of(part["image_url"]["url"])}
    except InputError as error:
        raise RequestError(str(error), code="invalid_image", param=where) from error


def _call(call: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A call that the model made before, as it writes one."""
    if call["type"] != "function":
        raise RequestError("Only function calls are supported.", param=f"{where}.tool_calls")
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
        # As the model writes it; half of a surrogate pair is no text.
        made = {"name": function["name"], "arguments": arguments}
        written = json.dumps(made, ensure_ascii=False)
        written.encode()
    except (ValueError, RecursionError):
        raise RequestError(
            "The arguments of a call are not JSON.", param=f"{where}.tool_calls"
        ) from None
    return {"type": "text", "text": f"{CALL_START}\n{written}\n{CALL_END}"}
