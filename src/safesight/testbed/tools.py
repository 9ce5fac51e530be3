"""The image tools the bundled VLM is taught to call, in the Qwen/Nous format.

Only words and boxes: the schema in the system turn, the text of a call, and the picture a zoom
returns. `safesight.tools` runs tools for any model.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from safesight.testbed.scenes import SIZE, Scene

__all__ = ["CENTRE", "QUARTERS", "TOOLS", "box_around", "zoom_call", "zoomed"]

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "image_zoom_in_tool",
            "description": "zoom in on a region of the picture.",
            "parameters": {
                "type": "object",
                "properties": {"bbox_2d": {"type": "array"}, "label": {"type": "string"}},
                "required": ["bbox_2d"],
            },
        },
    }
]

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in thousandths of the picture."""

CENTRE: Box = (250, 250, 750, 750)
QUARTERS: tuple[Box, ...] = (
    (0, 0, 500, 500),
    (500, 0, 1000, 500),
    (0, 500, 500, 1000),
    (500, 500, 1000, 1000),
)


def box_around(scene: Scene) -> Box:
    """The quarter, or the middle, closest to the centre of the first thing in the picture."""
    left, top, right, bottom = scene.regions()[0][1]
    x, y = (left + right) * 500 / SIZE, (top + bottom) * 500 / SIZE

    def distance(box: Box) -> float:
        return abs((box[0] + box[2]) / 2 - x) + abs((box[1] + box[3]) / 2 - y)

    return min((CENTRE, *QUARTERS), key=distance)


def zoom_call(box: Box) -> str:
    """The text of a call, with its two tags."""
    call = {"name": "image_zoom_in_tool", "arguments": {"bbox_2d": list(box), "label": "object"}}
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


def zoomed(scene: Scene, box: Box) -> Scene:
    """The scene as the zoom shows it: cropped to the box and twice as large."""
    left, top = box[0] * SIZE // 1000, box[1] * SIZE // 1000
    items = tuple(
        replace(i, left=2 * (i.left - left), top=2 * (i.top - top), size=2 * i.size)
        for i in scene.items
    )
    word_left, word_top, size = scene.word_box
    word_box = (2 * (word_left - left), 2 * (word_top - top), 2 * size)
    return replace(scene, items=items, word_box=word_box)
