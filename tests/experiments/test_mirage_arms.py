"""The arms of the mirage benchmark can be trained, each as often as it says."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from safesight.defenses import load_defense

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def test_every_arm_has_settings_that_its_method_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    mirage = importlib.import_module("mirage")
    plan = mirage.plan(2, first=7)
    names = [trial.arm for trial in mirage.trials()]
    assert len(set(names)) == len(names)
    for name in names:
        trial = next(trial for _, trial in plan if trial.arm == name)
        seeds = [seed for seed, planned in plan if planned.arm == name]
        assert seeds == ([7] if trial.once else [7, 8])
        config = load_defense(trial.method, **trial.settings).config
        assert all(getattr(config, key) is not None for key in trial.settings)
