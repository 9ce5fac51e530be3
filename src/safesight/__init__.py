"""safesight: measure, defend and compare open-weight vision-language models.

Names are imported on first use, so that `import safesight` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safesight.defenses import Artifact, Defense
    from safesight.defenses.protect import protect
    from safesight.defenses.sasa import SASA
    from safesight.models import VLM
    from safesight.types import Sample

__version__ = "0.1.0"

_HOME = {
    "VLM": "safesight.models",
    "Artifact": "safesight.defenses",
    "Defense": "safesight.defenses",
    "SASA": "safesight.defenses.sasa",
    "protect": "safesight.defenses",
    "Sample": "safesight.types",
}

__all__ = ["SASA", "VLM", "Artifact", "Defense", "Sample", "__version__", "protect"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'safesight' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
