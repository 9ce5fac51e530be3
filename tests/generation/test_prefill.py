"""The last prompt token of every row, however rows are padded and repeated."""

from __future__ import annotations

import torch

from safesight.defenses import Prefill
from tests import tiny

HIDDEN = torch.arange(24.0).reshape(4, 3, 2)


def test_last_tokens() -> None:
    vlm = tiny.vlm("llava")
    assert torch.equal(Prefill(vlm, {}, {}).at_last(HIDDEN), HIDDEN[:, -1])
    left = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]])
    assert torch.equal(Prefill(vlm, {}, {}, left).at_last(HIDDEN), HIDDEN[:, -1])
    right = left.flip(1)
    expected = torch.stack([HIDDEN[0, 0], HIDDEN[1, 1], HIDDEN[2, 2], HIDDEN[3, 2]])
    assert torch.equal(Prefill(vlm, {}, {}, right).at_last(HIDDEN), expected)


def test_last_tokens_of_several_answers_to_a_prompt() -> None:
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]])
    expected = torch.stack([HIDDEN[0, 0], HIDDEN[1, 0], HIDDEN[2, 2], HIDDEN[3, 2]])
    assert torch.equal(Prefill(tiny.vlm("llava"), {}, {}, mask).at_last(HIDDEN), expected)
