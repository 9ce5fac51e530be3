"""SASA: equation 8 by hand, its traps, the layers it tries, and what a fit can and cannot find."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from safesight.activations import RocArea, capture, edit, resid_post
from safesight.defenses import Artifact, FitData, load_defense, protection
from safesight.defenses.sasa import SASA, SASAConfig, _read, candidate_layers, projected
from safesight.defenses.shared.linear_gate import _split
from safesight.defenses.shared.validation import Validation, choose
from safesight.errors import ArtifactError, InputError, ModelError
from safesight.types import Sample
from tests import tiny
from tests.contracts.defense_helpers import fit_data, fitted, prompts, sample


def test_equation_8_by_hand() -> None:
    h_s = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    h_f = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    # row 0: <h_s,h_f> = 2, |h_f|^2 = 4, alpha = 1/2; row 1: 2, 2, alpha = 1.
    assert projected(h_s, h_f, "s_on_f", 0.0).tolist() == [[1.0, 0.0], [1.0, 1.0]]
    # the other way: row 0: 2 / 5; row 1: 2 / 10.
    expected = torch.tensor([[0.4, 0.8], [0.6, -0.2]])
    assert torch.allclose(projected(h_s, h_f, "f_on_s", 0.0), expected)
    assert torch.allclose(projected(h_s, h_f, "s_on_f", 4.0)[0], torch.tensor([0.5, 0.0]))


def test_projection_is_a_projection() -> None:
    generator = torch.Generator().manual_seed(0)
    h_s, h_f = (torch.randn(3, 5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    once = projected(h_s, h_f, "s_on_f", 0.0).double()
    assert torch.allclose(projected(once, h_f, "s_on_f", 0.0).double(), once, atol=1e-5)
    assert torch.allclose(((h_s - once) * h_f).sum(-1), torch.zeros(3, 5).double(), atol=1e-4)
    assert torch.allclose(projected(h_s, -3 * h_f, "s_on_f", 0.0).double(), once, atol=1e-5)
    assert bool((once.norm(dim=-1) <= h_s.norm(dim=-1) + 1e-5).all())


def test_half_precision_does_not_overflow() -> None:
    h_s = torch.full((1, 4, 64), 1e3, dtype=torch.float16)
    h_f = torch.full((1, 4, 64), 2e3, dtype=torch.float16)
    assert torch.isinf(h_f.square().sum(-1)).all(), "the trap is there"
    for direction in ("s_on_f", "f_on_s"):
        found = projected(h_s, h_f, direction, 1e-6)
        assert found.dtype == torch.float16
        assert torch.allclose(
            found.float(), torch.full_like(h_s, 1e3 if direction == "s_on_f" else 2e3).float()
        )


def test_zero_states_stay_finite() -> None:
    assert projected(torch.ones(1, 2), torch.zeros(1, 2), "s_on_f", 1e-6).tolist() == [[0.0, 0.0]]


def test_candidates() -> None:
    assert candidate_layers(32, SASAConfig())[0] == (13, 15)
    assert candidate_layers(32, SASAConfig(search=0)) == [(13, 15)]
    assert candidate_layers(32, SASAConfig(layers=(3, 20))) == [(3, 20)]
    assert len(candidate_layers(32, SASAConfig(search=1))) == 9 - 1  # (14, 14) is no pair
    assert len(candidate_layers(32, SASAConfig())) == 25 - 6
    for n in range(2, 81):
        pairs = candidate_layers(n, SASAConfig())
        assert len(set(pairs)) == len(pairs) > 0
        assert all(0 <= s < f < n for s, f in pairs)
    with pytest.raises(ModelError, match="1 decoder blocks"):
        candidate_layers(1, SASAConfig())
    with pytest.raises(ModelError, match="layers"):
        candidate_layers(4, SASAConfig(layers=(1, 4)))
    with pytest.raises(InputError, match="safety layer"):
        SASA(layers=(3, 2))


@pytest.mark.parametrize("direction", ["s_on_f", "f_on_s"])
@pytest.mark.parametrize("feature", ["logits", "hidden"])
@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3"])
def test_scores_equal_a_plain_second_pass(family: str, feature: str, direction: str) -> None:
    """The fork inside generate against two whole forwards, the second one edited."""
    vlm, defense = tiny.vlm(family), SASA(feature=feature, direction=direction, layers=(1, 3))
    artifact = defense.fit(vlm, fit_data(), progress=False)
    inputs = vlm.encode(prompts())
    sites = [resid_post(layer) for layer in (1, 3)]
    with torch.no_grad(), capture(vlm.layers, sites) as first:
        vlm.model(**inputs)
    hidden = projected(first[sites[0]], first[sites[1]], direction, 1e-6)
    with (
        torch.no_grad(),
        edit(vlm.layers, {sites[0]: lambda _: hidden}),
        capture(vlm.layers, sites[1:]) as second,
    ):
        logits = vlm.model(**inputs).logits[:, -1]
    z = logits if feature == "logits" else second[sites[1]][:, -1]
    expected = z.float() @ artifact.tensors["weight"] + artifact.tensors["bias"]
    with defense.apply(vlm, artifact):
        vlm.answer(prompts())
        found = protection(vlm.model).last.decisions["sasa"].scores
    assert torch.allclose(found, expected, atol=1e-2, rtol=1e-3)
    assert float(expected.std()) > 0.03


def test_projection_matters() -> None:
    vlm = tiny.vlm("llava")
    assert (
        fitted("sasa", "llava")
        .tensors["weight"]
        .ne(fitted("probe", "llava").tensors["weight"])
        .any()
    )
    vlm.answer(prompts())


@pytest.mark.parametrize("name", ["sasa", "probe"])
@pytest.mark.parametrize("feature", ["logits", "hidden"])
def test_planted_signal_is_found_and_shuffled_labels_are_not(name: str, feature: str) -> None:
    vlm, dice = tiny.vlm("llava"), random.Random(0)
    harmful = [sample(i, "harmful", i % 2 == 0) for i in range(30)]
    benign = [sample(i, "benign", i % 2 == 0) for i in range(30, 60)]
    defense = load_defense(name, feature=feature, standardize=True)
    real = defense.fit(vlm, FitData(harmful, benign), progress=False).card["validation_auroc"]
    assert real["value"] > 0.95
    alike = [sample(i, "benign", i % 2 == 0) for i in range(60)]
    dice.shuffle(alike)
    shuffled = FitData(alike[:30], alike[30:])
    chance = defense.fit(vlm, shuffled, progress=False).card["validation_auroc"]
    if name == "probe":  # sasa reports the best of several candidates
        assert chance["low"] < 0.5 < chance["high"]
    assert chance["value"] < 0.75


def test_threshold_is_the_stated_false_positive_rate() -> None:
    vlm = tiny.vlm("llava")
    held_out = [sample(i, "benign", i % 2 == 0) for i in range(40, 80)]
    data = replace(fit_data(), calibration_benign=held_out)
    for max_fpr, allowed in ((0.0, 0), (0.1, 4), (0.26, 10)):
        artifact = load_defense("sasa", max_fpr=max_fpr).fit(vlm, data, progress=False)
        note = artifact.card["calibration"]
        assert note["rate"] == allowed / 40
        assert note["low"] <= note["rate"] <= note["high"] < note["rate"] + 0.2
        assert note["n"] == 40
        assert note["value"] == artifact.fitted["threshold"]
        with SASA().apply(vlm, artifact):
            vlm.answer([each.messages() for each in held_out], max_new_tokens=1)
            assert int(protection(vlm.model).last.refused.sum()) == allowed


def test_calibration_data_only_sets_the_threshold() -> None:
    vlm = tiny.vlm("llava")
    without = SASA().fit(vlm, replace(fit_data(), calibration_benign=()), progress=False)
    assert without.fitted["threshold"] == 0.0
    assert without.card["calibration"] is None
    assert torch.equal(without.tensors["weight"], fitted("sasa", "llava").tensors["weight"])


def test_layers_are_chosen_by_validation() -> None:
    card = fitted("sasa", "qwen3_vl").card
    areas = card["candidates"]
    chosen = str(tuple(fitted("sasa", "qwen3_vl").fitted["layers"]))
    assert areas[chosen]["auroc"] == card["validation_auroc"]["value"]
    measured = {each["auroc"] for each in areas.values()}
    assert len(measured) > 1, "a tie would not show a choice"
    assert list(areas) == [str(p) for p in candidate_layers(4, SASAConfig())]


def test_layers_are_compared_on_some_prompts_and_the_probe_fitted_on_all() -> None:
    vlm, data = tiny.vlm("llava"), fit_data()
    mixed = [sample(i, "benign" if i % 3 else "harmful", i % 2 == 0) for i in range(100, 190)]
    data = replace(
        data,
        harmful=[s for s in mixed if s.label == "harmful"],
        benign=[s for s in mixed if s.label == "benign"],
    )
    compared = SASA(compare_on=50).fit(vlm, data, progress=False)
    assert compared.card["validation_auroc"]["positives"] == 17  # a third of 50
    assert compared.card["validation_auroc"]["negatives"] == 33
    whole = SASA(layers=tuple(compared.fitted["layers"])).fit(vlm, data, progress=False)
    assert whole.card["validation_auroc"]["positives"] == 30
    for name, value in whole.tensors.items():
        assert torch.allclose(value, compared.tensors[name], atol=1e-4), name


def test_a_rare_label_still_fills_the_folds() -> None:
    for rare in (5, 6, 8, 40):
        labels = torch.tensor([1] * rare + [0] * (400 - rare))
        some, rest = _split(labels, SASAConfig(compare_on=50), seed=0)
        assert sorted([*some, *rest]) == list(range(400))
        assert int(labels[some].sum()) >= 5
    assert len(some) == 60  # six of forty are enough
    one_more = torch.tensor([1] * 25 + [0] * 26)
    some, rest = _split(one_more, SASAConfig(compare_on=50), seed=0)
    assert (len(some), rest) == (51, [])


@pytest.mark.parametrize(
    ("other", "each", "chosen"),
    [
        (0.96, 100_000, "preferred"),
        (0.965, 100_000, "other"),
        (0.80, 100_000, "preferred"),
        (1.0, 20, "other"),
        (0.975, 40, "preferred"),
    ],
    ids=["by the margin", "by more", "worse", "by more than noise", "within noise"],
)
def test_the_preferred_layers_stay_unless_others_are_better_by_margin_and_noise(
    other: float, each: int, chosen: str
) -> None:
    def validation(accuracy: float) -> Validation:
        # The areas rank the candidates the other way round: the accuracy decides.
        area = RocArea(1 - accuracy, 0.0, 1.0, each, each)
        right = torch.arange(each) < round(accuracy * each)
        labels = torch.tensor([1] * each + [0] * each)
        return Validation(area, 5, "thing", right.repeat(2), labels)

    found = {"preferred": validation(0.95), "other": validation(other)}
    assert choose(found, 0.01) == chosen


def test_seed_is_in_the_artifact() -> None:
    vlm = tiny.vlm("llava")
    other = SASA().fit(vlm, fit_data(), seed=1, progress=False)
    assert other.card["seed"] == 1
    assert fitted("sasa", "llava").card["seed"] == 0


def test_settings_of_the_fit_are_those_of_use() -> None:
    vlm = tiny.vlm("llava")
    artifact = SASA(direction="f_on_s", feature="logits").fit(vlm, fit_data(), progress=False)
    assert artifact.tensors["weight"].shape == (vlm.vocab_size,)
    with SASA().apply(vlm, artifact):
        vlm.answer(prompts())
    with SASA(feature="logits", refusal="no.", threshold=1e-9).apply(vlm, artifact):
        assert vlm.answer(prompts()) == ["no."] * 4
    with pytest.raises(ArtifactError, match="feature='logits', not 'hidden'"):
        SASA(feature="hidden").apply(vlm, artifact).__enter__()
    unknown = replace(artifact, config={**artifact.config, "temper": 1})
    with pytest.raises(ArtifactError, match="temper"):
        SASA().apply(vlm, unknown).__enter__()


def test_a_fit_made_while_off_is_switched_on_by_name_or_refused() -> None:
    vlm = tiny.vlm("llava")
    artifact = SASA(enabled=False).fit(vlm, fit_data(), progress=False)
    with pytest.raises(ArtifactError, match="switched off"), SASA().apply(vlm, artifact):
        pass
    with SASA(enabled=True, threshold=1e-9).apply(vlm, artifact):
        assert vlm.answer(prompts()) == [SASA().config.refusal] * 4


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("layers", [3, 1]),
        ("layers", [1, 9]),
        ("layers", "12"),
        ("layers", None),
        ("threshold", None),
        ("threshold", float("inf")),
        ("threshold", "0"),
    ],
)
def test_artifacts_that_cannot_be(part: str, value: object) -> None:
    artifact = fitted("sasa", "llava")
    bad = replace(artifact, fitted={**artifact.fitted, part: value})
    with pytest.raises(ArtifactError, match="again"):
        SASA().apply(tiny.vlm("llava"), bad).__enter__()


@pytest.mark.parametrize("weight", [None, torch.zeros(3), torch.full((10_000,), torch.nan)])
def test_probes_that_cannot_be(weight: Tensor | None) -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("sasa", "llava")
    tensors = dict(artifact.tensors)
    if weight is None:
        del tensors["weight"]
    else:
        # As wide as the real one, so that the last of them fails for its values alone.
        tensors["weight"] = weight[: len(artifact.tensors["weight"])]
    with pytest.raises(ArtifactError, match="again"):
        SASA().apply(vlm, replace(artifact, tensors=tensors)).__enter__()


def test_too_few_samples() -> None:
    few = [sample(i, "harmful", False) for i in range(3)]
    for data in (FitData([], []), FitData(few, fit_data().benign), FitData(fit_data().harmful, [])):
        with pytest.raises(InputError, match="at least 5 harmful and 5 benign"):
            SASA().fit(tiny.vlm("llava"), data, progress=False)


def test_artifacts_are_small(tmp_path) -> None:
    folder = fitted("sasa", "llava").save(tmp_path / "a")
    size = sum(path.stat().st_size for path in folder.iterdir())
    vocabulary = tiny.vlm("llava").vocab_size
    assert size < 4 * vocabulary + 6_000, "four bytes a feature, and the texts"


def test_right_padded_rows_get_the_same_scores() -> None:
    vlm, artifact = tiny.vlm("llava"), fitted("sasa", "llava")
    left = dict(vlm.encode([tiny.ask("a"), tiny.ask("a longer question than that")]))
    padding = int((left["attention_mask"][0] == 0).sum())
    right = {name: value.clone() for name, value in left.items()}
    for value in right.values():
        value[0] = value[0].roll(-padding)
    with SASA().apply(vlm, artifact):
        vlm.model.generate(**left, max_new_tokens=1)
        expected = protection(vlm.model).last.decisions["sasa"].scores
        vlm.model.generate(**right, max_new_tokens=1)
        found = protection(vlm.model).last.decisions["sasa"].scores
    assert torch.allclose(found, expected, atol=1e-2)


def test_progress_is_shown_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    load_defense("probe").fit(tiny.vlm("llava"), fit_data(), progress=True)
    shown = capsys.readouterr()
    assert "comparing layers" in shown.err
    assert shown.out == ""


def test_a_sample_with_a_system_turn_can_be_fitted() -> None:
    def told(each: Sample) -> Sample:
        return replace(each, system="be kind")

    data = FitData([*map(told, fit_data().harmful)], [*map(told, fit_data().benign)])
    assert isinstance(load_defense("probe").fit(tiny.vlm("llava"), data, progress=False), Artifact)


def test_blocks_of_a_pair_may_be_on_two_devices() -> None:
    """The later block's states go to where the earlier one's are; "meta" stands for elsewhere."""
    states = {resid_post(1): torch.ones(1, 2, 4, device="meta"), resid_post(3): torch.ones(1, 2, 4)}
    seen: list[torch.Tensor] = []

    def replay(hidden: torch.Tensor, start: int) -> torch.Tensor:
        assert start == 2
        seen.append(hidden)
        return torch.zeros(1, 2, 4)

    prefill: Any = SimpleNamespace(states=states, replay=replay, at_last=lambda kept: kept[:, -1])
    assert _read(prefill, SASAConfig(), (1, 3)).shape == (1, 4)
    assert seen[0].device.type == "meta"
