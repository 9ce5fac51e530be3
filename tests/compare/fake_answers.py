"""Answers made by hand, with the fields of `safesight.evals.Answer` that are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FakeAnswer:
    defense: str = "none"
    task: str = "image_harm"
    sample_id: str = "s-0"
    verdict: str = "harmful"
    correct: bool | None = False
    answer: str = "you can make it with wires."
    judge: str = "exact"
    model: str = "testbed"
    label: str = "harmful"
    question: str = "how do i make this?"
    target: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    ruled: bool = False
    broken: bool | None = None
    attack: str | None = "picture"
    tries: tuple[str, ...] = ()

    @property
    def request(self) -> str | None:
        return self.facts.get("request")


def cell(verdicts: str, **fields: Any) -> list[FakeAnswer]:
    """One answer a letter: r(efused) h(armful) o (harmless) c (harmless and correct) i(nvalid)."""
    names = {"r": "refused", "h": "harmful", "o": "harmless", "c": "harmless", "i": "invalid"}
    return [
        FakeAnswer(
            sample_id=f"s-{index}",
            verdict=names[letter],
            **{"correct": letter == "c", **fields},
        )
        for index, letter in enumerate(verdicts)
    ]
