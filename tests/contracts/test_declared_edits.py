"""An edit that a defense declares is all that it does: made by hand, it gives the same scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor

from safesight.activations import edit, resid_post
from safesight.generation.edits import Change, Edit, LastTokenEdit
from safesight.generation.last_token import last_tokens
from safesight.models import VLM
from tests import tiny
from tests.contracts import defense_helpers as helpers
from tests.contracts.defense_helpers import DEFENSES, build, fitted, prompts

DECLARED = ("rai", "refusal_direction", "tool_vector")
OTHERS = sorted({name for name in DEFENSES if name not in DECLARED})


@contextmanager
def made_by_hand(vlm: VLM, declared: Edit, inputs: Any) -> Iterator[None]:
    def at_last(change: Change) -> Any:
        def function(hidden: Tensor) -> Tensor:
            new, chosen = hidden.clone(), last_tokens(inputs)
            new[chosen] = change(hidden[chosen].float()).to(hidden.dtype)
            return new

        return function

    def visual(hidden: Tensor) -> Tensor:
        assert not isinstance(declared, LastTokenEdit)
        new, mask = hidden.clone(), vlm.image_mask(inputs)
        new[mask] = (hidden[mask].float() + declared.shift(hidden[mask], mask.nonzero()[:, 0])).to(
            hidden.dtype
        )
        return new

    if isinstance(declared, LastTokenEdit):
        edits = {resid_post(layer): at_last(each) for layer, each in declared.changes.items()}
    else:
        edits = {declared.site: visual}
    with edit(vlm.layers, edits, prefill_only=True):
        yield


@pytest.mark.parametrize("family", ["llava", "qwen3_vl"])
@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_edit_is_the_whole_defense(name: str, family: str) -> None:
    vlm, defense = tiny.vlm(family), build(name)
    artifact = helpers.some_refused(defense, fitted(name, family), vlm, prompts())
    declared = defense.build(vlm, artifact).edit
    assert declared is not None
    plain = helpers.steps(vlm, prompts())
    with defense.apply(vlm, artifact):
        defended = helpers.steps(vlm, prompts())
    with made_by_hand(vlm, declared, vlm.encode(prompts())):
        by_hand = helpers.steps(vlm, prompts())
    assert helpers.same_steps(by_hand, defended)
    assert not helpers.same_steps(plain, defended)


@pytest.mark.parametrize("name", OTHERS)
def test_a_defense_that_does_more_declares_no_edit(name: str) -> None:
    assert build(name).build(tiny.vlm("llava"), fitted(name, "llava")).edit is None
