"""Defenses: what makes the model under test safer, and can be taken off again.

Read next: `base` (what a defense is), `front_door` (put one on a model), `protected_model`
(the order in which they act), `sasa` (a full example).
"""

from safesight.defenses.base import Defense, DefenseConfig, Inputs, Kind, Parts
from safesight.defenses.front_door import load_defense, protect, unprotect
from safesight.fitting.artifact import Artifact
from safesight.fitting.data import FitData
from safesight.generation.detectors import Outcome
from safesight.generation.prefill import Decision, Detector, Prefill
from safesight.generation.protected_model import Protection, protection

__all__ = [
    "Artifact",
    "Decision",
    "Defense",
    "DefenseConfig",
    "Detector",
    "FitData",
    "Inputs",
    "Kind",
    "Outcome",
    "Parts",
    "Prefill",
    "Protection",
    "load_defense",
    "protect",
    "protection",
    "unprotect",
]
