"""What a worker says of prompts unlike those that set a threshold."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from safesight.fitting.ranges import CalibrationRange, Spread
from safesight.generation import outside
from safesight.generation.prefill import Decision
from safesight.vllm.outside import tell
from safesight.vllm.requests import Request


def spread(low: float, high: float) -> Spread:
    return Spread.of([low, high])


def told(
    caplog: pytest.LogCaptureFixture, pictures: Spread, *requests: tuple[int, int], score: float = 0
) -> list[str]:
    """The warnings about requests of so many words and pictures."""
    calibrated = CalibrationRange(
        n=2, tokens=spread(5, 10), pictures=pictures, pixels=spread(64, 64), scores=spread(-1, 1)
    )
    made = [
        Request(0, "", np.zeros(0), True, None, pictures=count, words=words)
        for words, count in requests
    ]
    decision = Decision(torch.full((len(made),), score), torch.zeros(len(made)).bool(), 0.5)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "safesight"):
        tell("probe", calibrated, decision, made)
        tell("probe", calibrated, decision, made)  # once per process
    return [record.message for record in caplog.records]


@pytest.mark.parametrize(
    ("pictures", "requests", "score", "words"),
    [
        (spread(0, 1), [(7, 0), (8, 1)], 0.0, None),
        (spread(0, 1), [(7, 0), (900, 1)], 0.0, "5 to 10 tokens, but one here has 900"),
        (spread(1, 1), [(7, 1), (8, 0)], 0.0, "with 1 picture, but one here has 0"),
        (spread(0, 0), [(7, 0), (8, 1)], 0.0, "without pictures, but one here has 1"),
        (spread(3, 3), [(7, 1)], 0.0, None),  # three side by side look like one
        (spread(0, 1), [(7, 0)], -9.0, "-1 or more, but one here -9"),
    ],
)
def test_what_is_outside_is_said_once(
    pictures: Spread,
    requests: list[tuple[int, int]],
    score: float,
    words: str | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh = outside._Listener()
    monkeypatch.setattr(outside, "_logged", fresh)
    monkeypatch.setattr(outside, "_listeners", [fresh])
    found = told(caplog, pictures, *requests, score=score)
    assert len(found) == (words is not None)
    assert words is None or words in found[0]
