"""What a card says of a fit: its own model, data and seed, not anyone's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safesight.defenses import protect
from safesight.errors import ModelError
from safesight.fitting.provenance import provenance
from tests import tiny
from tests.contracts.defense_helpers import fit_data, fitted
from tests.training.helpers import fit


def test_a_card_tells_its_data_model_and_seed() -> None:
    vlm, data = tiny.vlm("llava"), fit_data()
    card = provenance(vlm, data, 3)
    assert card["model"]["identity"] == vlm.identity
    assert card["model"]["dtype"] == "float32"
    assert card["seed"] == 3
    assert card["data"]["hash"] == data.hash
    assert card["data"]["calibration_benign"] == len(data.calibration_benign)
    less = replace(data, benign=data.benign[1:])
    assert provenance(vlm, less, 3)["data"]["hash"] != data.hash


def test_what_was_read_with_dropout_or_changed_weights_is_not_of_the_model() -> None:
    """Its identity would be the model's all the same."""
    vlm, data = tiny.vlm("llava"), fit_data()
    vlm.model.train()
    try:
        with pytest.raises(ModelError, match="training mode"):
            provenance(vlm, data, 0)
    finally:
        vlm.model.eval()
    changed = pytest.raises(ModelError, match="changes the weights")
    with protect(vlm, "npo", fitted("npo", "llava")), changed:
        provenance(vlm, data, 0)
    assert provenance(vlm, data, 0)["seed"] == 0


def test_training_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safesight.training.run.installed", None)
    vlm = tiny.vlm("llava")
    vlm.model.train()
    try:
        with pytest.raises(ModelError, match="training mode"):
            fit("npo", vlm, max_steps=1)
    finally:
        vlm.model.eval()
