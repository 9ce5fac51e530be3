"""Defenses: what makes the model under test safer, and can be taken off again.

Read next: `base` (what a defense is), `protect` (put one on a model), `protection`
(the order in which they act), `sasa` (a full example).
"""

from safesight.defenses.artifact import Artifact
from safesight.defenses.base import Defense, DefenseConfig, Inputs, Kind, Parts
from safesight.defenses.data import FitData
from safesight.defenses.guard import Outcome
from safesight.defenses.prefill import Decision, Detector, Prefill
from safesight.defenses.protect import load_defense, protect
from safesight.defenses.protection import Protection, protection

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
]
