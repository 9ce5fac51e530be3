"""How many samples there are of each label, and how many of those have pictures, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from safesight.types import Label, Sample

__all__ = ["counted"]


def counted(samples: Sequence[Sample]) -> str:
    """Rows and pictures by label, and the number of groups if some have several rows.

    Example:
        >>> counted([Sample("1", "?", "harmful", ""), Sample("2", "?", "benign", "")])
        '1 harmful (0% with pictures), 1 benign (0% with pictures)'
    """
    parts = [
        f"{len(some):,} {label} ({share:.0%} with pictures)"
        for label in get_args(Label)
        if (some := [sample for sample in samples if sample.label == label])
        for share in [sum(bool(sample.pictures) for sample in some) / len(some)]
    ]
    groups = len({str(s.facts.get("group", f"id {s.id}")) for s in samples})
    if groups < len(samples):
        parts.append(f"{groups:,} groups")
    return ", ".join(parts) or "no rows"
