"""The whole look on tiny models: shapes, JSON, repeatability, and a model left as it was."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from safesight.analysis import LayerPlan, LayerReport, look
from safesight.analysis.results import FORMS
from safesight.defenses import load_defense
from safesight.errors import InputError
from tests import tiny
from tests.contracts.defense_helpers import fingerprint

FAMILIES = ("llava", "qwen2_5_vl", "gemma3")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_measure_has_a_number_a_layer(family: str) -> None:
    vlm = tiny.vlm(family)
    vlm.answer([tiny.ask("?", tiny.picture())], max_new_tokens=1)  # transformers' own lazy hooks
    print_ = fingerprint(vlm.model)
    prompt = load_defense("safety_prompt", text="Careful.")
    told: dict[str, int] = {}

    def watch(what: str, steps: int) -> Any:
        told[what] = steps

        def done(count: int) -> None:
            told[what] -= count

        return done

    plan = LayerPlan(n=4, folds=2, defenses={"safety_prompt": partial(prompt.apply, vlm)})
    report = look(vlm, plan, watch=watch)
    assert fingerprint(vlm.model) == print_
    assert set(told.values()) == {0}, "every bar ends"
    per_layer = [
        report.gap,
        *(item.areas for item in report.separability),
        *(item.means for item in report.projections),
        *(getattr(i, key) for i in report.lens for key in ("readable", "words", "rank")),
        *(getattr(item, key) for item in report.alignment for key in ("mean", "sd")),
    ]
    assert {len(row) for row in per_layer} == {vlm.num_layers} == {report.layers}
    assert [item.form for item in report.separability] == list(FORMS)
    curves = {(item.form, item.label, item.defense) for item in report.projections}
    assert len(curves) == len(report.projections) == 8
    assert ("object", "benign", "safety_prompt") in curves
    assert report.heads is None
    assert report.shift is None
    assert LayerReport.model_validate_json(report.model_dump_json()) == report


def test_the_same_seed_gives_the_same_report_and_another_does_not() -> None:
    vlm = tiny.vlm("llava")
    one, two, other = (look(vlm, LayerPlan(n=4, folds=2, seed=seed)) for seed in (0, 0, 1))
    changing = {"created": "", "seconds": 0.0}
    assert one.model_copy(update=changing) == two.model_copy(update=changing)
    assert one.projections != other.projections


def test_an_undefended_arm_lies_on_the_undefended_curve() -> None:
    vlm = tiny.vlm("llava")
    off = load_defense("safety_prompt", enabled=False)
    report = look(vlm, LayerPlan(n=4, folds=2, defenses={"off": partial(off.apply, vlm)}))
    found = {(p.form, p.label, p.defense): p.means for p in report.projections}
    for label in ("harmful", "benign"):
        assert found["object", label, "off"] == found["object", label, "none"]  # type: ignore[index]


def test_heads_and_a_vector_are_measured_when_asked_for(tmp_path: Path) -> None:
    vlm = tiny.vlm("llava")
    shift = torch.randn(vlm.num_layers, vlm.hidden_size, generator=torch.Generator().manual_seed(0))
    file = tmp_path / "heads.csv"
    plan = LayerPlan(n=4, folds=2, heads=True, heads_file=file, shift=shift, shift_source="tool")
    report = look(vlm, plan)
    assert report.heads is not None
    assert report.heads.n == 4
    assert file.exists()
    assert report.shift is not None
    assert report.shift.source == "tool"
    assert all(abs(value) < 0.9 for value in report.shift.cosines)


def test_more_folds_than_objects_are_refused() -> None:
    with pytest.raises(InputError, match="folds need"):
        look(tiny.vlm("llava"), LayerPlan(n=2))
