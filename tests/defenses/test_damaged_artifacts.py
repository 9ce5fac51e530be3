"""An artifact that lacks what a fit writes is refused by every fitted defense, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from safesight import registry
from safesight.defenses import Artifact, protection
from safesight.errors import ArtifactError
from tests import tiny
from tests.contracts.defense_helpers import DEFENSES, TUNED, build, fitted

FITTED = [name for name in DEFENSES if registry.load("defense", name).fitted]
NUMBERS = {
    "sasa": ("layers", "threshold"),
    "probe": ("threshold",),
    "rai": ("layer", "tau", "strength"),
    "tool_vector": ("layer",),
    "shiftdc": ("layers",),
    "hidden_detect": ("layers", "tokens", "threshold"),
    "refusal_direction": ("layer",),
    **dict.fromkeys(TUNED, ("lora", "whole")),
}
"""What each reads beside its tensors; a fitted defense must be here."""
OPTIONAL = {"refusal", "direction"}
"""Tensors that a fit may leave out, or that are for analysis alone."""


def damaged(artifact: Artifact, numbers: tuple[str, ...]) -> Iterator[Artifact]:
    """The artifact without each tensor and number in turn, and with wrong ones in its place."""
    for name, tensor in artifact.tensors.items():
        if name not in OPTIONAL:
            rest = {other: value for other, value in artifact.tensors.items() if other != name}
            yield replace(artifact, tensors=rest)
        if name != "direction":
            wrong = torch.zeros(*tensor.shape, 2)
            yield replace(artifact, tensors={**artifact.tensors, name: wrong})
    for name in numbers:
        rest = {other: value for other, value in artifact.fitted.items() if other != name}
        yield replace(artifact, fitted=rest)
        for wrong in ("one", [-1], True, float("nan"), 10**6):
            if name == "whole" or (type(wrong) is int and name in ("threshold", "tau", "strength")):
                continue  # a number as good as any, or a list of nothing that is there
            yield replace(artifact, fitted={**artifact.fitted, name: wrong})


@pytest.mark.parametrize("name", FITTED)
def test_what_is_missing_or_wrong_is_refused(name: str) -> None:
    vlm = tiny.vlm("llava")
    for bad in damaged(fitted(name, "llava"), NUMBERS[name]):
        with pytest.raises(ArtifactError, match=f"The {name} artifact .*again") as caught:
            build(name).apply(vlm, bad).__enter__()
        assert "\n" not in str(caught.value)
        assert protection(vlm.model) is None
