"""What every fit promises of its seed and of its data, tried on every registered defense."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safesight.defenses import FitData
from safesight.errors import InputError, ModelError
from safesight.types import TuningSet
from tests import tiny
from tests.contracts.defense_helpers import (
    CLASSES,
    DEFENSES,
    build,
    count_forwards,
    fit_data,
    fitted,
)


def without_label(label: str) -> FitData:
    return replace(fit_data(), **{label: ()})


def with_rows(*sets: TuningSet) -> FitData:
    return replace(fit_data(), tuning=[row for row in fit_data().tuning if row.set in sets])


def of_safety() -> FitData:
    """No row is neutral: those that are retained speak of safety."""
    rows = [replace(row, answer="it is safe.") for row in fit_data().tuning]
    return replace(fit_data(), tuning=rows)


LACKS = {
    "labels": {
        "no harmful samples": (lambda: without_label("harmful"), "harmful|kind|label"),
        "no benign samples": (lambda: without_label("benign"), "benign|kind|label"),
    },
    "forget_set": {"no forget rows": (lambda: with_rows("retain"), "forget set")},
    "retain_set": {"no retain rows": (lambda: with_rows("forget"), "retain set")},
    "neutral_set": {"rows that speak of safety": (of_safety, "neutral")},
}
"""Need to data that lack it, and what the error must speak of."""
OF_THE_MODEL = {"activations", "gradients"}
"""Needs that no data can lack; `VLM.wrap` refuses a model whose blocks it cannot find."""

ROWS = [
    pytest.param(name, *case, id=f"{name}-{what}")
    for name in DEFENSES
    for need in sorted(CLASSES[name].needs - OF_THE_MODEL)
    for what, case in LACKS[need].items()
]


@pytest.mark.parametrize("name", DEFENSES)
def test_the_seed_is_kept_and_counts_where_something_is_drawn(name: str) -> None:
    other = build(name).fit(tiny.vlm("llava"), fit_data(), seed=1, progress=False)
    if CLASSES[name].fitted:  # else there was nothing to fit
        assert other.card["seed"] == 1
    assert (other.hash != fitted(name, "llava").hash) == CLASSES[name].contract.draws


@pytest.mark.parametrize(("name", "data", "missing"), ROWS)
def test_data_without_what_it_needs_are_refused(name: str, data, missing: str) -> None:
    """In the user's words: what is missing, and what to do about it."""
    with pytest.raises(InputError, match=rf"(?s)({missing}).*(Add|Ask|Give|Put) "):
        build(name).fit(tiny.vlm("llava"), data(), progress=False)


@pytest.mark.parametrize("name", [name for name in DEFENSES if CLASSES[name].fitted])
def test_a_model_in_training_mode_is_refused(name: str) -> None:
    """Its states are not the model's, which the artifact would be tied to."""
    vlm = tiny.vlm("llava")
    vlm.model.train()
    try:
        with pytest.raises(ModelError, match="training mode"):
            build(name).fit(vlm, fit_data(), progress=False)
    finally:
        vlm.model.eval()


def test_a_fit_without_any_data_is_refused() -> None:
    """By every defense that needs some, and before the model has run."""
    vlm = tiny.vlm("llava")
    with count_forwards(vlm.layers[0]) as forwards:
        for name in DEFENSES:
            if CLASSES[name].needs:
                with pytest.raises(InputError, match=r"(?i)add|give|pass|put"):
                    build(name).fit(vlm, FitData([], []), progress=False)
    assert not forwards
