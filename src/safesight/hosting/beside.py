"""What to know about detectors that judge a model whose states other defenses change."""

from __future__ import annotations

from collections.abc import Sequence

from safesight import registry

__all__ = ["note_on_detectors"]

_CHANGES_STATES = frozenset({"input", "activation", "weights"})
"""Kinds of defenses with which a detector sees other states than those that it was fitted on."""


def note_on_detectors(names: Sequence[str]) -> str | None:
    """A sentence for the operator of a server with these defenses; None if there is nothing to say.

    Example:
        >>> note_on_detectors(["probe"]) is None
        True
        >>> note_on_detectors(["safety_prompt", "probe"])[:31]
        'Note: probe judges by scores an'
    """
    kinds = {name: registry.load("defense", name).kind for name in names}
    detectors = [name for name, kind in kinds.items() if kind == "detector"]
    others = [name for name, kind in kinds.items() if kind in _CHANGES_STATES]
    if not detectors or not others:
        return None
    judge, they = ("judges", "it") if len(detectors) == 1 else ("judge", "they")
    return (
        f"Note: {' and '.join(detectors)} {judge} by scores and thresholds of the model without "
        f"{' and '.join(others)}, so {they} may refuse more or less than alone. Measure it with "
        f"safesight eval --defense {'+'.join(names)}"
    )
