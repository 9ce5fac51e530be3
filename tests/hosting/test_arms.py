"""Arms by name: what they put on the model, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from safesight.defenses import protection
from safesight.errors import ArtifactError, InputError, UnknownNameError
from safesight.grammar import check_arm
from safesight.hosting.arms import build_arm
from safesight.models import VLM
from tests import tiny
from tests.contracts.defense_helpers import build, fit_data, fitted
from tests.training.helpers import fit


def test_a_stress_test_is_another_arm_with_the_same_defense() -> None:
    vlm = tiny.vlm("llava")
    artifact = fit("npo", vlm, max_steps=1)
    plain, worked = (build_arm(vlm, name, {"npo": artifact}) for name in ("npo", "npo~int4"))
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
    with pytest.raises(InputError, match="safety_prompt does not change weights"):
        build_arm(vlm, "safety_prompt~int4")
    with pytest.raises(InputError, match="'none~int4' does not change weights"):
        build_arm(vlm, "none~int4")
    with pytest.raises(ArtifactError, match="no direction"):
        build_arm(vlm, "npo~ablate_direction", {"npo": fit("npo", vlm, max_steps=1)})
    with pytest.raises(InputError, match="has neither"):
        build_arm(vlm, "npo~relearn_harmful", {"npo": fit("npo", vlm, max_steps=1)})


def test_every_defense_of_an_arm_takes_its_own_artifact() -> None:
    vlm = tiny.vlm("llava")
    given = {name: fitted(name, "llava") for name in ("probe", "sasa")}
    arm = build_arm(vlm, "probe+sasa", given)
    assert [artifact for _, artifact in arm.defenses] == [given["probe"], given["sasa"]]
    with arm.attached(vlm):
        assert protection(vlm.model).names == ["probe", "sasa"]
        vlm.answer([tiny.ask("hi")], max_new_tokens=1)
        assert protection(vlm.model).last.decisions.keys() == {"probe", "sasa"}
    other = build("sasa").fit(vlm, fit_data(), seed=0, progress=False)
    changed = replace(other, fitted={**other.fitted, "threshold": 0.5})
    assert build_arm(vlm, "probe+sasa", {**given, "sasa": changed}).identity != arm.identity


def test_artifacts_that_nobody_takes_or_that_are_misfiled_are_refused() -> None:
    vlm, probe = tiny.vlm("llava"), fitted("probe", "llava")
    with pytest.raises(InputError, match="'safety_prompt' is not fitted and takes no artifact"):
        build_arm(vlm, "safety_prompt", {"safety_prompt": probe})
    for name in ("none", "safety_prompt", "safety_prompt+sasa"):
        with pytest.raises(InputError, match="takes no artifact of 'probe'"):
            build_arm(vlm, name, {"probe": probe})
    with pytest.raises(ArtifactError, match="belongs to 'probe', not to 'sasa'"):
        build_arm(vlm, "sasa", {"sasa": probe})


def test_settings_are_part_of_the_identity() -> None:
    vlm = tiny.vlm("llava")
    arms = [build_arm(vlm, "ecso", **settings) for settings in ({}, {"max_caption_tokens": 9})]
    assert arms[0].identity != arms[1].identity
    assert build_arm(vlm, "ecso").identity == arms[0].identity


def test_the_identity_holds_tokenizer_and_generation_config_and_no_trace_of_use() -> None:
    model, processor = tiny.fresh("llava")
    vlm = VLM.wrap(model, processor)
    before, identity = vlm.identity, build_arm(vlm, "none").identity
    questions = ("hello", "a longer one")
    vlm.encode([[{"role": "user", "content": question}] for question in questions])
    used = VLM.wrap(model, copy.deepcopy(processor))
    assert used.tokenizer.backend_tokenizer.padding is not None
    assert build_arm(used, "none").identity == identity

    found = {identity}
    used.tokenizer.add_tokens(["hello"])
    retold = VLM.wrap(model, copy.deepcopy(used.processor))
    found.add(build_arm(retold, "none").identity)
    for name, value in (("eos_token_id", [1, 2]), ("max_new_tokens", 7)):
        setattr(model.generation_config, name, value)
        found.add(build_arm(vlm, "none").identity)
    assert len(found) == 4
    assert VLM.wrap(model, processor).identity == before  # artifacts go on


@pytest.mark.parametrize(("arm", "near"), [("npo~int5", "int4"), ("nbo~int4", "npo")])
def test_unknown_names_are_told_the_nearest(arm: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"'{near}'|'int8'"):
        check_arm(arm)
