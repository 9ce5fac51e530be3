"""An artifact that lacks what a fit writes is refused by every fitted defense, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from safesight import registry
from safesight.defenses import Artifact, load_defense, protection
from safesight.errors import ArtifactError, SafesightError
from tests import tiny
from tests.contracts.defense_helpers import CLASSES, DEFENSES, TUNED, build, fitted

FITTED = [name for name in DEFENSES if registry.load("defense", name).fitted]
NUMBERS = {
    "sasa": ("layers", "threshold"),
    "probe": ("threshold",),
    "answer_probe": ("layer", "threshold"),
    "rai": ("layer", "tau", "strength", "words"),
    "tool_vector": ("layer",),
    "shiftdc": ("layers",),
    "hidden_detect": ("layers", "tokens", "threshold"),
    "refusal_direction": ("layer",),
    **dict.fromkeys(TUNED, ("lora", "whole")),
}
"""What each reads beside its tensors; a fitted defense must be here."""
OPTIONAL = {"refusal", "direction"}
"""Tensors that a fit may leave out, or that are for analysis alone."""
NEVER: tuple[Any, ...] = (
    *("one", "", True, None, {}, {"a": 1}, [-1], [None], ["x"], [True], [10**400], [[]]),
    *(math.nan, math.inf, -math.inf, 10**400, 1e308, -1e308),
)
"""No number and no list of them."""
INDICES: tuple[Any, ...] = (-1, 10**6, 1.5, 0.5, [0, 0], [10**6], [0.5], [])
"""No block, and no list of blocks or tokens."""
LORA = {
    "rank": (*NEVER, 0, -1, 1.5, []),
    "lora_alpha": (*NEVER, 0, -1.0, []),
    "modules": (*NEVER, 5, ["x", "x"], "model"),
}


def wrong_numbers(artifact: Artifact, name: str) -> Iterator[Any]:
    """Values that an artifact may not have under a name in `fitted`."""
    if name == "whole":
        yield from (None, 5, "model", {"a": 1}, ["x"], [5], [[]], math.nan)
        return
    if name == "words":
        yield from (None, 5, "one", {}, [], ["one more word"] * 99)
        return
    yield from NEVER
    if name == "lora":
        given = artifact.fitted["lora"]
        yield from ({key: v for key, v in given.items() if key != gone} for gone in given)
        for key, values in LORA.items():
            yield from ({**given, key: value} for value in values)
    elif name in ("layer", "layers", "tokens"):
        yield from INDICES


def wrong_tensors(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Tensors that an artifact may not have in place of this one."""
    yield tensor[..., None].repeat_interleave(2, dim=-1)
    yield tensor[:0]
    yield torch.full_like(tensor, math.nan)
    yield torch.full_like(tensor, math.inf)
    yield torch.full_like(tensor, 1e300, dtype=torch.float64)
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn):
        yield torch.ones_like(tensor).to(dtype)


def damaged(artifact: Artifact, numbers: tuple[str, ...]) -> Iterator[Artifact]:
    """The artifact without each tensor and number in turn, and with wrong ones in its place."""
    for name, tensor in artifact.tensors.items():
        if name not in OPTIONAL:
            rest = {other: value for other, value in artifact.tensors.items() if other != name}
            yield replace(artifact, tensors=rest)
        if name != "direction":
            for wrong in wrong_tensors(tensor):
                yield replace(artifact, tensors={**artifact.tensors, name: wrong})
    for name in numbers:
        rest = {other: value for other, value in artifact.fitted.items() if other != name}
        yield replace(artifact, fitted=rest)
        for wrong in wrong_numbers(artifact, name):
            yield replace(artifact, fitted={**artifact.fitted, name: wrong})
    if "extra" in artifact.fitted:
        for wrong in (None, 5, "x", {"a": 1}, [5], [None]):
            yield replace(artifact, fitted={**artifact.fitted, "extra": wrong})
    zeros = {name: torch.zeros_like(tensor) for name, tensor in artifact.tensors.items()}
    if any(tensor.numel() > 1 for tensor in zeros.values()):
        yield replace(artifact, tensors=zeros)


@pytest.mark.parametrize("name", FITTED)
def test_what_is_missing_or_wrong_is_refused(name: str) -> None:
    vlm = tiny.vlm("llava")
    for bad in damaged(fitted(name, "llava"), NUMBERS[name]):
        with pytest.raises(ArtifactError, match=f"The {name} artifact .*again") as caught:
            build(name).apply(vlm, bad).__enter__()
        assert "\n" not in str(caught.value)
        assert protection(vlm.model) is None


@pytest.mark.parametrize("name", DEFENSES)
def test_settings_of_the_wrong_type_are_refused(name: str) -> None:
    """Whatever JSON holds in place of each setting: one short sentence, or a setting it can be."""
    vlm = tiny.vlm("llava")
    artifact = fitted(name, "llava")
    defense = CLASSES[name]()
    said: list[str] = []
    for key in [*artifact.config, "unknown"]:
        for wrong in (*NEVER, [], -1, 10**9, "x" * 10_000):
            bad = replace(artifact, config={**artifact.config, key: wrong})
            try:
                defense.resolve(vlm, bad)
            except SafesightError as error:
                said.append(str(error))
    assert all("\n" not in each and len(each) < 600 for each in said)
    assert len(said) >= 10 * len(artifact.config)


@pytest.mark.parametrize("name", FITTED)
def test_an_artifact_that_is_switched_off_defends_nothing_and_says_so(name: str) -> None:
    vlm, artifact = tiny.vlm("llava"), fitted(name, "llava")
    off = replace(artifact, config={**artifact.config, "enabled": False})
    with pytest.raises(ArtifactError, match="switched off"):
        load_defense(name).apply(vlm, off).__enter__()
    assert protection(vlm.model) is None
    with load_defense(name, enabled=True).apply(vlm, off):
        assert protection(vlm.model).names == [name]
