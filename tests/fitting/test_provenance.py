"""What a card says of a fit: its own model, data and seed, not anyone's."""

from __future__ import annotations

from dataclasses import replace

from safesight.fitting.provenance import provenance
from tests import tiny
from tests.contracts.defense_helpers import fit_data


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
