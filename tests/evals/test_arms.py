"""Arms by name: what they put on the model, and what is refused."""

from __future__ import annotations

import pytest
import torch

from safesight.errors import ArtifactError, InputError, UnknownNameError
from safesight.evals.arms import build_arm
from safesight.registry import check_arm
from tests import tiny
from tests.defenses.tuning_helpers import fit


def test_a_stress_test_is_another_arm_with_the_same_defense() -> None:
    vlm = tiny.vlm("llava")
    artifact = fit("npo", vlm, max_steps=1)
    plain, worked = (build_arm(vlm, name, artifact) for name in ("npo", "npo~int4"))
    assert plain.identity != worked.identity
    assert worked.name == "npo~int4"
    before = vlm.layers[0].mlp.down_proj.weight.clone()
    with worked.attached(vlm):
        changed = vlm.layers[0].mlp.down_proj.weight
        assert not torch.equal(changed, before)
        assert len(changed[0].unique()) <= 15
    assert torch.equal(vlm.layers[0].mlp.down_proj.weight, before)


def test_what_cannot_be_stressed_is_said() -> None:
    vlm = tiny.vlm("llava")
    with pytest.raises(InputError, match="safety_prompt changes no weights"):
        build_arm(vlm, "safety_prompt~int4")
    with pytest.raises(InputError, match="'none~int4' changes no weights"):
        build_arm(vlm, "none~int4")
    with pytest.raises(ArtifactError, match="no direction"):
        build_arm(vlm, "npo~ablate_direction", fit("npo", vlm, max_steps=1))
    with pytest.raises(InputError, match="has none"):
        build_arm(vlm, "npo~relearn_harmful", fit("npo", vlm, max_steps=1))


@pytest.mark.parametrize(("arm", "near"), [("npo~int5", "int4"), ("nbo~int4", "npo")])
def test_unknown_names_are_told_the_nearest(arm: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"'{near}'|'int8'"):
        check_arm(arm)
