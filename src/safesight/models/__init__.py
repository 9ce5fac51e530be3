"""One way to talk to any Hugging Face vision-language model.

Read next: `vlm` (the object everything else uses), `families` (where each architecture keeps
its parts), `check` (whether a model behaves as defenses need). Names are imported on first use,
so that reading the table of families does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "FAMILIES": "safesight.models.families",
    "CheckReport": "safesight.models.check",
    "Family": "safesight.models.families",
    "VLM": "safesight.models.vlm",
    "open_picture": "safesight.models.pictures",
}

__all__ = ["FAMILIES", "VLM", "CheckReport", "Family", "open_picture"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'safesight.models' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
