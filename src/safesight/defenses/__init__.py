"""Defenses: methods that make the model under test safer and can be removed again.

Read next: `base` (what a defense is), `front_door` (attach one to a model), `sasa` (a full
example); `generation.composition` has the order in which they act.
"""

from safesight.defenses.base import AnyDefense, Defense, DefenseConfig, Inputs, Kind, Parts, Stored
from safesight.defenses.contract import Contract
from safesight.defenses.front_door import load_defense, protect, unprotect
from safesight.fitting.artifact import Artifact
from safesight.fitting.data import FitData
from safesight.generation.composition import Protection, protection
from safesight.generation.detectors import Outcome
from safesight.generation.prefill import Decision, Detector, Prefill

__all__ = [
    "AnyDefense",
    "Artifact",
    "Contract",
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
    "Stored",
    "load_defense",
    "protect",
    "protection",
    "unprotect",
]
