"""Defenses: methods that make the model under test safer and can be removed again.

Read next: `base` (what a defense is), `protect` (attach one to a model), `protection`
(the order in which they act), `sasa` (a full example).
"""

from safesight.defenses.base import AnyDefense, Defense, DefenseConfig, Inputs, Kind, Parts, Stored
from safesight.defenses.contract import Contract
from safesight.defenses.front_door import load_defense, protect
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
]
