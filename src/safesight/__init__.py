"""safesight: measure, defend and compare open-weight vision-language models.

Names are imported on first use, so that `import safesight` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safesight.benchmarks import load_benchmark
    from safesight.defenses.base import Defense
    from safesight.defenses.front_door import load_defense, protect, unprotect
    from safesight.defenses.image_tools.method import ImageTools
    from safesight.defenses.npo import NPO
    from safesight.defenses.probe import Probe
    from safesight.defenses.rai.method import RAI
    from safesight.defenses.rmu import RMU
    from safesight.defenses.sasa import SASA
    from safesight.defenses.sft import SFT
    from safesight.defenses.tool_vector.method import ToolVector
    from safesight.defenses.vsfa import VSFA
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.models.vlm import VLM
    from safesight.types import Sample

__version__ = "0.1.0"

_HOME = {
    "Artifact": "fitting.artifact",
    "Defense": "defenses.base",
    "FitData": "fitting.data",
    "ImageTools": "defenses.image_tools.method",
    "NPO": "defenses.npo",
    "Probe": "defenses.probe",
    "RAI": "defenses.rai.method",
    "RMU": "defenses.rmu",
    "SASA": "defenses.sasa",
    "SFT": "defenses.sft",
    "Sample": "types",
    "ToolVector": "defenses.tool_vector.method",
    "VLM": "models.vlm",
    "VSFA": "defenses.vsfa",
    "load_benchmark": "benchmarks",
    "load_defense": "defenses.front_door",
    "protect": "defenses.front_door",
    "unprotect": "defenses.front_door",
}

__all__ = [
    "NPO",
    "RAI",
    "RMU",
    "SASA",
    "SFT",
    "VLM",
    "VSFA",
    "Artifact",
    "Defense",
    "FitData",
    "ImageTools",
    "Probe",
    "Sample",
    "ToolVector",
    "__version__",
    "load_benchmark",
    "load_defense",
    "protect",
    "unprotect",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"safesight.{_HOME[name]}"), name)
    from difflib import get_close_matches

    nearest = {known.lower(): known for known in __all__}
    near = get_close_matches(name.lower(), nearest, n=1)
    hint = f". Did you mean {nearest[near[0]]!r}?" if near else ""
    raise AttributeError(f"module 'safesight' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted(__all__)
