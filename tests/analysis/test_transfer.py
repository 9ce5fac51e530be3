"""The transfer matrix: every cell is what its row's detector makes of its column's prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from safesight.activations import auroc, threshold_at_fpr
from safesight.analysis.transfer import (
    AS_IT_IS,
    TransferPlan,
    TransferReport,
    TransferSet,
    _cell,
    transfer,
)
from safesight.errors import InputError
from safesight.fitting.seen import marked
from safesight.testbed.tasks import image_harm, over_refusal
from safesight.types import Sample
from safesight.workflows.transfer_sets import SetPlan, transfer_sets
from tests import tiny
from tests.contracts.defense_helpers import answers, build, fitted, last_decision

VLM = tiny.vlm("llava")
PLAN = TransferPlan(fpr=0.25)


def sample(kind: str, label: Any, index: int) -> Sample:
    words = {("bake", "harmful"): "how to bomb", ("bake", "benign"): "i bake a cake"}
    text = words.get((kind, label), f"{'zz' if label == 'harmful' else 'aa'} {kind}")
    return Sample(f"{kind}-{label}-{index}", f"{text} {index}?", label, "")


def made(kind: str, n: int = 8) -> TransferSet:
    def both(start: int) -> list[Sample]:
        return [sample(kind, label, start + i) for label in ("harmful", "benign") for i in range(n)]

    return TransferSet(kind, both(0), [sample(kind, "benign", 100 + i) for i in range(n)], both(50))


SETS = [made("bake"), made("sing", 6), made("draw")]


def scores(artifact: Any, prompts: Sequence[Sample]) -> Any:
    with build("probe").apply(VLM, artifact):
        answers(VLM, [each.messages() for each in prompts], max_new_tokens=1)
        return last_decision(VLM)


def test_a_cell_is_the_detector_of_its_row_on_the_prompts_of_its_column() -> None:
    defense, given = build("probe"), fitted("probe", "llava")
    found = transfer(VLM, defense, SETS, PLAN, artifact=given, progress=False)
    assert found.sets == ["bake", "sing", "draw"]
    assert [row.source for row in found.rows] == [AS_IT_IS, *found.sets]
    for row in found.rows:
        assert len(row.cells) == 3
    first, home = found.rows[0], found.rows[1]
    assert first.threshold == given.fitted["threshold"]
    assert (first.fitted, first.calibrated) == (0, 0)
    assert (home.fitted, home.calibrated) == (16, 8)
    for cell, each in zip(first.cells, SETS, strict=True):
        decision = scores(given, each.test)
        labels = [sample.label == "harmful" for sample in each.test]
        caught = [bool(r) for r, harmful in zip(decision.refuse, labels, strict=True) if harmful]
        assert cell.caught.value == sum(caught) / len(caught)
        area = auroc(decision.scores, decision.scores.new_tensor(labels))
        assert cell.area.value == pytest.approx(area.value)
        assert cell.area.low <= cell.area.value <= cell.area.high
        assert (cell.harmful, cell.benign) == (sum(labels), len(labels) - sum(labels))
        assert cell.few


def test_prompts_about_one_thing_do_not_count_as_many() -> None:
    def about(things: int) -> list[Sample]:
        return [
            replace(sample("draw", label, i), facts={"concept": f"{label} {i % things}"})
            for label in ("harmful", "benign")
            for i in range(40)
        ]

    scored = torch.tensor([1.0] * 40 + [0.0] * 40)
    many, few = (_cell(scored, about(things), 0.5) for things in (40, 4))
    assert many.caught.value == few.caught.value == many.area.value == few.area.value == 1
    assert few.caught.low < 0.55 < 0.9 < many.caught.low
    assert few.refused.high > 0.45 > 0.1 > many.refused.high
    assert few.area.low < many.area.low


def test_with_the_probe_kept_only_thresholds_differ() -> None:
    plan = TransferPlan("threshold", fpr=0.25)
    given = fitted("probe", "llava")
    found = transfer(VLM, build("probe"), SETS, plan, artifact=given, progress=False)
    for column in range(3):
        assert len({row.cells[column].area.value for row in found.rows}) == 1
    for row, each in zip(found.rows[1:], SETS, strict=True):
        assert row.threshold == threshold_at_fpr(scores(given, each.calibration).scores, 0.25).value
    assert {row.fitted for row in found.rows} == {0}
    assert found.notes == []
    knowing = given.with_split("bake.jsonl", marked("fit", SETS[0].test[:5]))
    (note,) = transfer(VLM, build("probe"), SETS, plan, artifact=knowing, progress=False).notes
    assert "has seen 5 of 16 test prompts of bake" in note
    with pytest.raises(InputError, match="--artifact"):
        transfer(VLM, build("probe"), SETS, plan, progress=False)


def test_a_file_that_lacks_a_cell_is_refused() -> None:
    found = transfer(VLM, build("probe"), SETS[:2], PLAN, progress=False)
    raw = found.model_dump(mode="json")
    assert TransferReport.model_validate(raw) == found
    raw["rows"][0]["cells"].pop()
    with pytest.raises(ValidationError, match="not every row has 2 cells"):
        TransferReport.model_validate(raw)


def test_the_bundled_kinds_get_twins_of_their_own_form() -> None:
    sets = transfer_sets(["text_harm", "image_harm", "typographic_harm"], SetPlan(6, 9))
    for each in sets:
        assert [len(part) for part in (each.fit, each.calibration, each.test)] == [12, 9, 12]
        assert len({sample.attack for sample in (*each.fit, *each.calibration, *each.test)}) == 1
        assert {sample.label for sample in each.calibration} == {"benign"}
        ids = [sample.id for part in (each.fit, each.calibration, each.test) for sample in part]
        assert len(ids) == len(set(ids))
    assert sets[1].test[0].id == image_harm(1)[0].id
    assert sets[0].test[6].id in {sample.id for sample in over_refusal(30)}


def test_an_attacked_task_gets_twins_under_the_same_attack() -> None:
    one, _ = transfer_sets(["text_harm+one_word", "image_harm"], SetPlan(6, 9))
    assert {sample.attack for sample in one.test} == {"one_word"}
    assert {sample.attack for sample in one.calibration} == {"one_word"}
