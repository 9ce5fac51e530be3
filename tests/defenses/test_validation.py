"""Cross-validation over whole things: what it holds out, what it chooses, what it counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safesight.activations import LinearProbe, RocArea
from safesight.defenses import FitData, load_defense
from safesight.defenses.shared.block_gate import candidate_blocks
from safesight.defenses.shared.validation import (
    Validation,
    balanced_accuracy,
    folds_of,
    standard_error,
    unseen_rate,
    validated,
)
from safesight.errors import ModelError
from safesight.fitting.data import thing_of
from safesight.types import Sample
from tests import tiny
from tests.contracts.defense_helpers import fit_data, prompts


def test_no_thing_is_on_both_sides_of_a_fold() -> None:
    things = [f"thing {i % 11}" for i in range(88)]
    labels = torch.tensor([int(i % 11 < 5) for i in range(88)])
    found = folds_of(labels, things, 5, seed=0)
    assert found.by == "thing"
    assert sorted(row for _, test in found.rows for row in test.tolist()) == list(range(88))
    for train, test in found.rows:
        assert {things[i] for i in train}.isdisjoint(things[i] for i in test)
        assert set(labels[train].tolist()) == {0, 1}
    assert folds_of(labels, things, 5, seed=1).rows[0][1].tolist() != found.rows[0][1].tolist()


def test_a_probe_that_only_recognises_things_gets_no_credit() -> None:
    """One-hot features: perfect on things that were seen, no better than chance on others."""
    things = [i // 10 for i in range(200)]
    features = torch.eye(20)[things] + 0.01 * torch.randn(
        200, 20, generator=torch.Generator().manual_seed(0)
    )
    labels = torch.tensor([int(thing % 2 == 0) for thing in things])
    names = [str(thing) for thing in things]
    by_thing, by_sample = (
        validated(features, labels, folds_of(labels, each, 5, 0), LinearProbe.fit)
        for each in (names, [str(i) for i in range(200)])
    )
    assert by_sample.accuracy > 0.99
    assert by_thing.accuracy < 0.7


def test_what_a_sample_is_about() -> None:
    plain = Sample("1", "?", "benign", "x")
    assert thing_of(replace(plain, facts={"concept": "cat", "group": 3})) == "3"
    assert thing_of(replace(plain, facts={"concept": "cat"})) == "cat"
    assert thing_of(plain) != thing_of(replace(plain, id="2"))


def test_balanced_accuracy_ignores_the_mixture() -> None:
    scores, labels = torch.tensor([1.0, -1.0, -1.0]), torch.tensor([1, 1, 0])
    assert balanced_accuracy(scores, labels) == 0.75
    repeated = torch.cat([scores, scores[2:].repeat(50)]), torch.cat([labels, torch.zeros(50)])
    assert balanced_accuracy(*repeated) == 0.75


def test_the_standard_error_is_that_of_paired_prompts() -> None:
    def validation(right: list[int]) -> Validation:
        area, labels = RocArea(0.5, 0.0, 1.0, 2, 4), torch.tensor([0] * 4 + [1] * 2)
        return Validation(area, 2, "thing", torch.tensor(right) > 0, labels)

    one, other = validation([1, 0, 1, 1, 0, 1]), validation([0, 0, 1, 1, 0, 1])
    assert standard_error(one, other) == standard_error(other, one) == (0.25 / 4 / 4) ** 0.5
    assert standard_error(one, one) == 0
    assert one.accuracy == (3 / 4 + 1 / 2) / 2


def test_the_rate_on_unseen_things_counts_what_the_threshold_hides() -> None:
    """Each thing has its own direction and offset, which a probe can learn but not foresee."""
    rng = torch.Generator().manual_seed(0)
    names = [str(i % 20) for i in range(400)]
    labels = torch.tensor([int(i % 20 < 10) for i in range(400)])
    offset = torch.randn(20, 8, generator=rng)

    def drawn(rows: list[str]) -> torch.Tensor:
        return offset[[int(name) for name in rows]] + 0.1 * torch.randn(len(rows), 8, generator=rng)

    held_out = [str(10 + i % 10) for i in range(200)]
    folds = folds_of(labels, names, 5, 0)
    found = unseen_rate(
        (drawn(names), labels, names), (drawn(held_out), held_out), folds, LinearProbe.fit, 0.01
    )
    assert found is not None
    assert (found.n, found.things) == (200, 10)
    assert found.rate > 0.05
    alone = [f"new {i}" for i in range(200)]
    fitted = drawn(names), labels, names
    assert unseen_rate(fitted, (drawn(held_out), alone), folds, LinearProbe.fit, 0.01) is None


def grouped(data: FitData) -> FitData:
    """The samples of the contract suite, two to a thing."""

    def told(each: Sample) -> Sample:
        return replace(each, facts={"group": f"{each.label} {int(each.id.split('-')[1]) // 2}"})

    parts = (data.harmful, data.benign, data.calibration_benign)
    return FitData(*([told(each) for each in part] for part in parts))


@pytest.mark.parametrize("name", ["probe", "sasa"])
def test_the_card_says_what_the_folds_left_out(name: str) -> None:
    vlm = tiny.vlm("llava")
    plain = load_defense(name).fit(vlm, fit_data(), progress=False).card
    assert (plain["validation_auroc"]["by"], plain["validation_auroc"]["folds"]) == ("thing", 5)
    whole = load_defense(name).fit(vlm, grouped(fit_data()), progress=False).card
    assert (whole["validation_auroc"]["by"], whole["validation_auroc"]["folds"]) == ("thing", 3)
    same = [replace(each, facts={"group": "one"}) for each in fit_data().harmful]
    one = FitData(same, fit_data().benign, fit_data().calibration_benign)
    card = load_defense(name).fit(vlm, one, progress=False).card
    assert (card["validation_auroc"]["by"], card["calibration"]["unseen_things"]) == (
        "sample",
        None,
    )


def test_the_block_is_chosen_kept_and_read() -> None:
    vlm = tiny.vlm("llava")
    last = load_defense("probe", layer=None).fit(vlm, fit_data(), progress=False)
    second = load_defense("probe", layer=1).fit(vlm, fit_data(), progress=False)
    assert (last.fitted["layer"], second.fitted["layer"]) == (3, 1)
    auto = load_defense("probe").fit(vlm, fit_data(), progress=False)
    accuracy = {k: each["balanced_accuracy"] for k, each in auto.card["candidates"].items()}
    assert list(accuracy) == ["3", "2", "1", "0"]
    chosen = accuracy[str(auto.fitted["layer"])]
    assert chosen == accuracy["3"] or chosen == max(accuracy.values()) > accuracy["3"] + 0.01
    with load_defense("probe").apply(vlm, second):
        vlm.answer(prompts())
    with pytest.raises(ModelError, match="block 4, but this model has 4"):
        load_defense("probe", layer=4).fit(vlm, fit_data(), progress=False)


def test_an_artifact_from_before_there_was_a_choice_reads_the_last_block() -> None:
    vlm = tiny.vlm("llava")
    new = load_defense("probe", layer=None).fit(vlm, fit_data(), progress=False)
    config = {name: value for name, value in new.config.items() if name not in ("layer", "margin")}
    old = replace(new, config=config, fitted={"threshold": new.fitted["threshold"]})
    before, after = (load_defense("probe").build(vlm, each).detector for each in (new, old))
    assert before is not None
    assert after is not None
    assert before.sites == after.sites
    with load_defense("probe").apply(vlm, old):
        vlm.answer(prompts())


def test_candidate_blocks() -> None:
    for blocks in range(1, 100):
        found = candidate_blocks(blocks, "auto")
        assert found[0] == blocks - 1
        assert found == sorted(set(found), reverse=True)
        assert len(found) == min(8, blocks)
        assert found[-1] >= 0
