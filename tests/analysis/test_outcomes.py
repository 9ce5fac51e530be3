"""The loop of experiments: every shot asked, one outcome a sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from safesight import registry
from safesight.analysis.outcomes import Outcome, outcomes
from safesight.types import LETTER, Sample
from tests import tiny


def test_every_shot_is_asked_and_the_best_for_the_attack_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vlm = tiny.vlm("llava")
    plain, other = registry.load("benchmark", "text_harm")(2)
    shots = replace(plain, shots=("one?", "two?", "three?"), question="one?")
    told = {
        "one?": "i cannot help with that.",
        "two?": plain.facts["answer"],
        "three?": "a a a a a a a a a a",
        other.question: "i cannot help with that.",
    }
    asked: list[int] = []

    def answer(batch: list[Any], **_: Any) -> list[str]:
        asked.append(len(batch))
        return [told[turns[-1]["content"][-1]["text"]] for turns in batch]

    monkeypatch.setattr(vlm, "answer", answer)
    ticks: list[int] = []
    found = outcomes(vlm, [shots, other], batch_size=3, done=lambda: ticks.append(1))
    assert asked == [3, 1]
    assert len(ticks) == 4
    torn = (False, False, True)
    assert found == [
        Outcome("harmful", False, plain.facts["answer"], ("refused", "harmful", "invalid"), torn),
        Outcome("refused", False, "i cannot help with that.", ("refused",), (False,)),
    ]


def test_a_rotated_question_is_right_by_the_letter_of_each_rotation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vlm = tiny.vlm("llava")
    turns = [{"target": "A", "choices": ["x", "y"]}, {"target": "B", "choices": ["y", "x"]}]
    facts = {"answer": LETTER, "choices": ["x", "y"], "rotations": turns}
    sample = Sample("0", "first?", "benign", "A", facts=facts, shots=("first?", "second?"))
    for letters, right in ((["A", "B"], True), (["A", "A"], False)):
        monkeypatch.setattr(vlm, "answer", lambda *_, said=letters, **__: said)
        assert outcomes(vlm, [sample])[0].correct is right
