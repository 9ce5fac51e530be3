"""Rows and settings for training tiny models in a moment."""

from __future__ import annotations

from functools import partial
from typing import Any

from safesight.defenses import Artifact, FitData, load_defense
from safesight.models import VLM
from safesight.training.run import TuningRun
from safesight.types import TuningSample
from tests import tiny

FAST = {"batch_size": 2, "rank": 2, "learning_rate": 0.01, "warmup": 0.0}


def row(name: str, kind: str = "forget", picture: bool = False, **more: Any) -> TuningSample:
    fields: dict[str, Any] = {
        "question": f"how to {name}?",
        "answer": f"do {name}, then rest.",
        "label": "harmful" if kind == "forget" else "benign",
        "image": partial(tiny.picture, len(name)) if picture else None,
        **more,
    }
    return TuningSample(id=name, set=kind, **fields)  # type: ignore[arg-type]


def rows() -> list[TuningSample]:
    return [
        *(row(f"break {n}", picture=n % 2 == 0) for n in range(3)),
        *(row(f"bake {n}", "retain", picture=n % 2 == 1) for n in range(5)),
    ]


def data(*given: TuningSample) -> FitData:
    return FitData((), (), tuning=given or rows())


def fit(
    name: str, vlm: VLM, run: TuningRun | None = None, given: FitData | None = None, **config: Any
) -> Artifact:
    defense: Any = load_defense(name, **{**FAST, **config})
    artifact = defense.fit(vlm, given or data(), progress=False, run=run)
    assert isinstance(artifact, Artifact)
    return artifact
