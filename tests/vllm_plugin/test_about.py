"""What an engine says of its defenses, and that it tells one fit from another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safesight.defenses import load_defense
from safesight.fitting.artifact import Artifact
from safesight.fitting.bundled import place_in
from safesight.vllm.about import About, fingerprint


def test_a_name_of_a_class_holds_all_of_it() -> None:
    defenses, template = {"sasa": "a", "probe": "b"}, {"safety_prompt": "c"}
    about = About(defenses=defenses, per_request=False, template=template)
    assert about.class_name.isidentifier()
    found = About.of_class(about.class_name)
    assert found == about
    assert list(found.defenses) == ["sasa", "probe"]  # in the order in which they act


@pytest.mark.parametrize("name", ["Requests", "Requests_", "Requests_7b7d", "__path__"])
def test_any_other_name_is_no_class(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        About.of_class(name)


@pytest.mark.parametrize(
    "text", ["", "The defenses of this server: ", 'The defenses of this server: {"a": 1}', "{}"]
)
def test_an_answer_that_says_nothing(text: str) -> None:
    assert About.in_answer(text) is None


def test_another_fit_or_setting_has_another_fingerprint() -> None:
    probe = Artifact.load(place_in("testbed", "probe"))
    other = replace(probe, fitted={**probe.fitted, "threshold": 0.123})
    plain, tuned = load_defense("probe"), load_defense("probe", threshold=0.9)
    found = [fingerprint(plain, probe), fingerprint(plain, other), fingerprint(tuned, probe)]
    assert len(set(found)) == 3
    assert (
        fingerprint(load_defense("probe"), Artifact.load(place_in("testbed", "probe"))) == found[0]
    )
