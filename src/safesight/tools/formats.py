"""How a chat offers tools, writes a call and shows its result, for three kinds of models.

template  the chat template does it all, by `tools=` and the role `tool` (Qwen3-VL, ours)
nous      Qwen-Agent's text: a block in the system turn, and the result in a user turn between
          `<tool_response>` and `</tool_response>` (Qwen2.5-VL)
plain     the same block and call, but the result in a user turn without tags: for models that
          were never taught to call tools
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from safesight.tools.calls import TOOLS, Returned, call_text, run_call, scripted_arguments
from safesight.tools.zoom import BoxUnit
from safesight.types import Message

__all__ = ["CENTRE", "ToolFormat", "ToolSetup", "setup_for"]

ToolFormat = Literal["template", "nous", "plain"]

RESULT_START, RESULT_END = "<tool_response>", "</tool_response>"
CENTRE = (250, 250, 750, 750)
"""The middle half of both sides, in thousandths."""

_BLOCK = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{schemas}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""Qwen-Agent's text (authors' code)."""


@dataclass(frozen=True)
class ToolSetup:
    """How tools are offered to a model, and the arguments of a scripted call."""

    format: ToolFormat
    boxes: BoxUnit = "thousandths"
    published: bool = False
    """Whether schemas are published ones, or brief."""
    tools: tuple[str, ...] = ("zoom",)
    """The keys of `TOOLS` to offer; a scripted call uses the first."""
    box: tuple[int, int, int, int] = CENTRE
    words: str = ""
    """The text of a scripted turn before its call."""

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """The schemas to offer, one per tool."""
        found = [TOOLS[key] for key in self.tools]
        return [dict(tool.published if self.published else tool.brief) for tool in found]

    @property
    def block(self) -> str:
        """The system text that offers the tools; not used by the format "template"."""
        return _BLOCK.format(schemas="\n".join(map(json.dumps, self.schemas)))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags in the text of the user's turns, to be kept when the conversation is encoded."""
        return (RESULT_START, RESULT_END) if self.format == "nous" else ()

    def offer(
        self, messages: Sequence[Message]
    ) -> tuple[list[Message], list[dict[str, Any]] | None]:
        """The conversation with the tools on offer, and the schemas for the chat template.

        The text goes at the start of an existing system turn.
        """
        if self.format == "template":
            return list(messages), self.schemas
        head, rest = [{"type": "text", "text": self.block}], list(messages)
        if rest and rest[0]["role"] == "system":
            content = rest.pop(0)["content"]
            own = [content] if isinstance(content, str) else [part["text"] for part in content]
            head = [{"type": "text", "text": "\n\n".join([self.block, *own])}]
        return [{"role": "system", "content": head}, *rest], None

    def scripted_call(self, picture: Image.Image, index: int = 0) -> str:
        """The text of a scripted call about a picture, the one with this number from 0."""
        key, size = self.tools[0], picture.size
        arguments = scripted_arguments(key, self.box, size, self.boxes, self.published, index)
        return call_text(TOOLS[key].name, arguments, self.words)

    def run(self, text: str, pictures: Sequence[Image.Image], index: int = 0) -> Returned:
        """The result of the call in an answer; `index` is the picture if the call names none."""
        return run_call(text, pictures, self.tools, self.boxes, index)

    def trace(self, text: str, returned: Returned) -> list[Message]:
        """The two turns after the question: the call and its result.

        Example:
            >>> [turn["role"] for turn in ToolSetup("nous").trace("a call", "text")]
            ['assistant', 'user']
        """
        part: dict[str, Any] = {"type": "text", "text": returned}
        if isinstance(returned, Image.Image):
            part = {"type": "image", "image": returned}
        content = [part]
        if self.format == "nous":
            content = [_text(f"{RESULT_START}\n"), part, _text(f"\n{RESULT_END}")]
        role = "tool" if self.format == "template" else "user"
        call: Message = {"role": "assistant", "content": [_text(text)]}
        return [call, {"role": role, "content": content}]


def setup_for(
    taught: str, boxes: BoxUnit, template: Any, format: str = "auto", **scripted: Any
) -> ToolSetup:
    """How a model is offered tools.

    Args:
        taught: The `ToolFormat` from the table of families.
        boxes: The unit of boxes from the table of families.
        template: The model's chat template. If it offers tools and writes `<tool_response>`
            itself, it is used.
        format: A `ToolFormat` that overrides all of these; "auto" for none.
        **scripted: Further fields of `ToolSetup`.

    Example:
        >>> setup_for("nous", "pixels", "{{ messages }}").format
        'nous'
    """
    if format == "auto":
        writes = "tools" in str(template) and RESULT_START in str(template)
        format = "template" if writes else taught
    published = taught == "nous"
    return ToolSetup(format, boxes, published, **scripted)  # type: ignore[arg-type]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
