"""What each patch of a picture shows, in words: targets for the vision tower, text for a reader.

A patch is the square that becomes one visual token. No pixels or tensors here.
"""

from __future__ import annotations

from safesight.testbed.scenes import SIZE, Scene

__all__ = ["GRID", "PATCH", "layout", "spelled"]

PATCH = 16
"""Patches are PATCH x PATCH pixels."""
GRID = SIZE // PATCH
"""A picture is GRID x GRID patches."""
_COVERED = 0.5
"""A patch belongs to an object if at least this fraction of it is in the object's box."""


def layout(scene: Scene) -> list[str | None]:
    """What each patch shows, row by row: GRID * GRID words.

    The concept if an object or word covers the patch, the colour if it shows only background,
    None if a box covers less than half of it, or a word is cut off.

    Example:
        >>> import random
        >>> from safesight.testbed.concepts import concept
        >>> from safesight.testbed.scenes import objects_scene
        >>> scene = objects_scene([concept("cat")], random.Random(0))
        >>> set(layout(scene)) - {None} == {"cat", scene.color}
        True
    """
    grid: list[str | None] = [scene.color] * (GRID * GRID)
    for name, (left, top, right, bottom) in scene.regions():
        cut = name == scene.word and (left < 0 or right > SIZE)  # partial words name nothing
        for index in range(GRID * GRID):
            row, column = divmod(index, GRID)
            wide = min(right, (column + 1) * PATCH) - max(left, column * PATCH)
            high = min(bottom, (row + 1) * PATCH) - max(top, row * PATCH)
            # A line of text is lower than a patch: the fraction is measured along the line.
            share = max(wide, 0) * max(high, 0) / (PATCH * min(PATCH, max(1, bottom - top)))
            if share >= _COVERED and not cut:
                grid[index] = name
            elif share > 0:
                grid[index] = None
    return grid


def spelled(scene: Scene) -> str:
    """The picture as GRID * GRID words, in the order of its visual tokens."""
    return " ".join(word or scene.color for word in layout(scene))
