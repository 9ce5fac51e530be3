"""A refused request says its refusal and nothing else, whatever the sampler would choose."""

from __future__ import annotations

import pytest
import torch

from safesight.vllm.forcing import Forcing

END, OWN_END = 2, 3


@pytest.fixture
def forcing() -> Forcing:
    return Forcing({"probe": [5, 6], "sasa": [7]}, END, 4, torch.device("cpu"))


def said(forcing: Forcing, slot: int, length: int, steps: int) -> list[int]:
    """The tokens of the answer of one slot, by greedy choice from random logits."""
    tokens = []
    for step in range(steps):
        rows = (torch.tensor([slot]), torch.tensor([length - 1 + step]))
        logits = forcing.hide(torch.randn(1, 10), *rows)
        tokens.append(int(logits.argmax()))
        sampled = torch.tensor([[9]])
        forcing.overrule(sampled, *rows)
        assert int(sampled) in (tokens[-1], 9)
    return tokens


def test_the_refusal_and_then_the_end_of_the_turn(forcing: Forcing) -> None:
    forcing.refuse(1, "probe", length=4, end=OWN_END)
    assert said(forcing, 1, 4, 6) == [5, 6, OWN_END, OWN_END, OWN_END, OWN_END]
    forcing.refuse(1, "sasa", length=4, end=None)
    assert said(forcing, 1, 4, 3) == [7, END, END]


def test_others_keep_their_logits_bit_for_bit(forcing: Forcing) -> None:
    forcing.refuse(1, "probe", length=1, end=None)
    logits = torch.randn(3, 10)
    slots, positions = torch.tensor([0, 1, 2]), torch.tensor([3, 0, 5])
    found = forcing.hide(logits, slots, positions)
    assert torch.equal(found[[0, 2]], logits[[0, 2]])
    probabilities = found[1].softmax(dim=0)
    assert float(probabilities[5]) == 1.0
    forcing.allow(1)
    assert forcing.hide(logits, slots, positions) is logits


def test_what_a_grammar_sampled_is_overruled(forcing: Forcing) -> None:
    forcing.refuse(0, "probe", length=2, end=None)
    sampled = torch.tensor([[8], [8]])
    forcing.overrule(sampled, torch.tensor([0, 1]), torch.tensor([1, 1]))
    assert sampled.tolist() == [[5], [8]]


def test_while_a_prompt_is_read_nothing_is_said(forcing: Forcing) -> None:
    """Runners sample for prompts in the middle, too, and throw the token away."""
    forcing.refuse(0, "probe", length=9, end=None)
    logits = torch.randn(1, 10)
    assert forcing.hide(logits, torch.tensor([0]), torch.tensor([3])) is logits
