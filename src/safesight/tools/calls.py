"""The tools by name, and how a call in the text of an answer is run.

The format is that of Qwen and Nous: `<tool_call>` and `</tool_call>` around one JSON object with
`name` and `arguments`. Schemas come in two lengths: `published`, with the words of Qwen-Agent
(zoom) and DeepEyes (rotate), and `brief`, our own, for models that were not taught those.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from safesight.tools.errors import ToolError
from safesight.tools.ocr import read_text
from safesight.tools.rotate import rotate
from safesight.tools.zoom import BoxUnit, zoom

__all__ = [
    "CALL_END",
    "CALL_START",
    "TOOLS",
    "Returned",
    "Tool",
    "ToolError",
    "call_text",
    "has_call",
    "picture_of_call",
    "run_call",
    "scripted_arguments",
]

CALL_START, CALL_END = "<tool_call>", "</tool_call>"

Returned = Image.Image | str
"""What a tool returns. Errors are text that begins with "Error: "."""

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Tool:
    """A tool that a model may call."""

    name: str
    """The name as the model writes it."""
    run: Callable[[Image.Image, Arguments, BoxUnit], Returned]
    brief: Mapping[str, Any]
    """The short schema."""
    published: Mapping[str, Any]
    """The schema in the published words that models were trained on."""


def _schema(name: str, description: str, properties: Any, required: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


_INDEX = {
    "type": "number",
    "description": "The index of the zoomed-in image (starting from 0)",
}
_BOX = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 4,
    "maxItems": 4,
    "description": "The bounding box of the region to zoom in, as [x1, y1, x2, y2], where (x1, y1) "
    "is the top-left corner and (x2, y2) is the bottom-right corner",
}
_LABEL = {
    "type": "string",
    "description": "The name or label of the object in the specified bounding box",
}

_ZOOM = Tool(
    "image_zoom_in_tool",
    lambda picture, arguments, unit: zoom(picture, _argument(arguments, "bbox_2d"), unit),
    _schema(
        "image_zoom_in_tool",
        "zoom in on a region of the picture.",
        {"bbox_2d": {"type": "array"}, "label": {"type": "string"}},
        ["bbox_2d"],
    ),
    _schema(
        "image_zoom_in_tool",
        "Zoom in on a specific region of an image by cropping it based on a bounding box (bbox) "
        "and an optional object label",
        {"bbox_2d": _BOX, "label": _LABEL, "img_idx": _INDEX},
        ["bbox_2d", "label", "img_idx"],
    ),
)
_ROTATE = Tool(
    "image_rotate_tool",
    lambda picture, arguments, _: rotate(picture, _argument(arguments, "angle")),
    _schema(
        "image_rotate_tool",
        "turn the picture.",
        {"angle": {"type": "integer"}},
        ["angle"],
    ),
    _schema(
        "image_rotate_tool",
        "Rotate the image clockwise by an angle in degrees",
        {"angle": {"type": "integer", "description": "Rotation angle in degrees"}},
        ["angle"],
    ),
)
_READ_SCHEMA = _schema("image_ocr_tool", "read the words in the picture.", {}, [])
_OCR = Tool("image_ocr_tool", lambda picture, _, __: read_text(picture), _READ_SCHEMA, _READ_SCHEMA)

TOOLS: dict[str, Tool] = {"zoom": _ZOOM, "rotate": _ROTATE, "ocr": _OCR}
"""Tools by short name. OCR returns text, so it is a different kind of process from the two that
return a picture."""


def scripted_arguments(
    key: str,
    box: Sequence[int],
    size: tuple[int, int],
    unit: BoxUnit,
    published: bool,
    index: int = 0,
) -> dict[str, Any]:
    """The arguments of a scripted call.

    Args:
        key: A key of `TOOLS`.
        box: Left, top, right, bottom in thousandths, for the zoom.
        size: Width and height of the picture.
        unit: The model's unit for boxes.
        published: Whether the model knows the published schema.
        index: The number of the picture, from 0.
    """
    if key == "rotate":
        return {"angle": 90}
    if key == "ocr":
        return {}
    if unit == "pixels":
        box = [round(n * size[i % 2] / 1000) for i, n in enumerate(box)]
    known = {"label": "region of interest", "img_idx": index} if published else {"label": "object"}
    return {"bbox_2d": list(box), **known}


def call_text(name: str, arguments: Arguments, words: str = "") -> str:
    """The text of an answer that calls a tool.

    Example:
        >>> print(call_text("image_rotate_tool", {"angle": 90}))
        <tool_call>
        {"name": "image_rotate_tool", "arguments": {"angle": 90}}
        </tool_call>
    """
    call = json.dumps({"name": name, "arguments": dict(arguments)})
    return f"{words}\n{CALL_START}\n{call}\n{CALL_END}".strip()


def has_call(text: str) -> bool:
    """Whether an answer calls a tool, correctly or not."""
    return CALL_START in text


def run_call(
    text: str,
    pictures: Sequence[Image.Image],
    allowed: Sequence[str],
    unit: BoxUnit,
    index: int = 0,
) -> Returned:
    """Run the last call of an answer.

    Args:
        text: The answer.
        pictures: The pictures that `img_idx` selects from, counted from 0.
        allowed: The keys of `TOOLS` that were offered.
        unit: The unit of boxes.
        index: The picture of a call without `img_idx`.

    Returns:
        A picture or text; errors are text that tells the model what went wrong.

    Example:
        >>> run_call("<tool_call> {} </tool_call>", [], ["zoom"], "pixels")
        'Error: there is no tool called None. There is: image_zoom_in_tool.'
    """
    try:
        name, arguments = _parsed(text)
        tools = {TOOLS[key].name: TOOLS[key] for key in allowed}
        if not isinstance(name, str) or name not in tools:
            known = ", ".join(tools)
            raise ToolError(f"there is no tool called {name}. There is: {known}.")
        chosen = arguments.get("img_idx", index)
        if not isinstance(chosen, int | float) or chosen not in range(len(pictures)):
            raise ToolError(f"img_idx must be a whole number from 0 to {len(pictures) - 1}.")
        return tools[name].run(pictures[int(chosen)], arguments, unit)
    # Pillow raises the next two for operations it cannot do, and Python the last for whole numbers
    # that no float can hold.
    except (ToolError, ValueError, OSError, OverflowError) as error:
        return f"Error: {error}"


def picture_of_call(text: str, count: int, index: int) -> int:
    """Which of the pictures, counted from 0, a call is about: `index` unless it names another.

    Example:
        >>> call = '<tool_call>{"name": "x", "arguments": {"img_idx": 1}}</tool_call>'
        >>> picture_of_call(call, 2, 0), picture_of_call(call, 1, 0)
        (1, 0)
    """
    try:
        chosen = _parsed(text)[1].get("img_idx", index)
    except ToolError:
        return index
    named = isinstance(chosen, int | float) and chosen in range(count)
    return int(chosen) if named else index


def _parsed(text: str) -> tuple[Any, Arguments]:
    body = text.rpartition(CALL_START)[2].partition(CALL_END)[0]
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        raise ToolError("the call could not be read: write one JSON object.") from None
    arguments = call.get("arguments", {}) if isinstance(call, dict) else None
    if not isinstance(arguments, dict):
        raise ToolError("the call could not be read: it needs a name and arguments.")
    return call.get("name"), arguments


def _argument(arguments: Arguments, name: str) -> Any:
    if name not in arguments:
        raise ToolError(f"the argument {name} is missing.")
    return arguments[name]
