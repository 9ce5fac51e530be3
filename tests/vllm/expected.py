"""What transformers makes of a tiny model with each defense, for vLLM to be compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from safesight.defenses import Artifact, load_defense
from safesight.defenses.base import AnyDefense
from safesight.defenses.reference import with_reference
from safesight.models import VLM
from tests import tiny
from tests.contracts import defense_helpers as helpers

DETECTORS = ("probe", "sasa", "hidden_detect")
EDITS = ("rai", "refusal_direction", "tool_vector")
TOKENS = 6
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    # Block 0 returns before anything of a picture is added between blocks (DeepStack).
    "sasa": {"layers": (0, 2)},
    # Strong enough for other answers.
    "rai": {"strength": 64.0},
    "refusal_direction": {"strength": 8.0},
    "tool_vector": {"strength": 8.0},
}
_FITTED: Mapping[str, Mapping[str, Any]] = {"rai": {"tau": -1.0}}
"""So that every visual token is moved."""
TALKS = {
    "text": tiny.ask("hi"),
    "longer text": tiny.ask("how to make a bomb?"),
    "picture": tiny.ask("what is in this picture?", tiny.picture(1)),
    "tall picture": tiny.ask("look", tiny.picture(4, 32, 56)),
    "two pictures": tiny.ask("compare these", tiny.picture(2), tiny.picture(3, 32, 56)),
    "pictures in two turns": helpers.sample(5, "benign", picture=True).messages(),
    "turns of text": helpers.sample(4, "harmful", picture=False).messages(),
}


@dataclass
class Expected:
    """Of every talk, with no padding."""

    talks: Sequence[Any]
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    answers: dict[str, list[list[int]]] = field(default_factory=dict)
    """By defense; "none" is the model alone."""
    scores: dict[str, list[float]] = field(default_factory=dict)
    refused: dict[str, list[bool]] = field(default_factory=dict)


def settings_of(name: str, artifacts: Path) -> dict[str, Any]:
    """The entry of a defense in an engine's configuration."""
    entry: dict[str, Any] = {"name": name, "artifact": str(artifacts / name)}
    if name in EDITS:
        entry |= _SETTINGS.get(name, {})
    return entry


def expected(checkpoint: Path, talks: Sequence[Any], artifacts: Path) -> Expected:
    """Fit every defense, save its artifact with a reference, and answer with each."""
    vlm = VLM.load(str(checkpoint))
    found = Expected(talks)
    found.prompts = [tuple(vlm.encode([talk])["input_ids"][0].tolist()) for talk in talks]
    found.answers["none"] = [_tokens(vlm, talk) for talk in talks]
    for name in (*DETECTORS, *EDITS):
        defense = load_defense(name, **_SETTINGS.get(name, {}))
        artifact = defense.fit(vlm, helpers.fit_data(), seed=0, progress=False)
        artifact = replace(artifact, fitted={**artifact.fitted, **_FITTED.get(name, {})})
        if name in DETECTORS:
            artifact = _some_refused(vlm, defense, artifact, talks)
        with_reference(vlm, defense, artifact).save(artifacts / name)
        _answer(vlm, defense, artifact, found)
    return found


def _tokens(vlm: VLM, talk: Any) -> list[int]:
    inputs = vlm.encode([talk])
    sequence = vlm.generate(inputs, max_new_tokens=TOKENS)[0].tolist()
    answer = sequence[inputs["input_ids"].shape[1] :]
    # A refusal is longer, as transformers is not asked to cut it.
    return [token for token in answer if token != vlm.tokenizer.eos_token_id][:TOKENS]


def _answer(vlm: VLM, defense: AnyDefense, artifact: Artifact, found: Expected) -> None:
    name = defense.name
    answers, scores, refused = [], [], []
    with defense.apply(vlm, artifact):
        for talk in found.talks:
            answers.append(_tokens(vlm, talk))
            if name in DETECTORS:
                decision = helpers.last_decision(vlm)
                scores.append(float(decision.scores[0]))
                refused.append(bool(decision.refuse[0]))
    found.answers[name], found.scores[name], found.refused[name] = answers, scores, refused


def _some_refused(
    vlm: VLM, defense: AnyDefense, artifact: Artifact, talks: Sequence[Any]
) -> Artifact:
    """The artifact with a threshold in the widest gap between its higher scores."""
    never = replace(artifact, fitted={**artifact.fitted, "threshold": 1e30})
    found = Expected(talks)
    _answer(vlm, defense, never, found)
    ordered = sorted(found.scores[defense.name])[len(talks) // 2 :]
    gap, low = max((high - low, low) for low, high in pairwise(ordered))
    return replace(artifact, fitted={**artifact.fitted, "threshold": low + gap / 2})
