"""The loop of experiments: every shot asked, one outcome a sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from safesight import registry
from safesight.analysis.outcomes import Outcome, outcomes
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
