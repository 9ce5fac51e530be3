"""Seeded sampling: an exact draw that no neighbor and no padding can change."""

from __future__ import annotations

import pytest
import torch

from safesight.errors import InputError
from safesight.hosting.sampling import SeededSampling
from safesight.hosting.settings import Settings

PROMPT = torch.tensor([[3, 4, 5], [6, 7, 8]])
LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).repeat(2, 1)


def draw(sampling: SeededSampling, prompt: torch.Tensor, logits: torch.Tensor) -> list[int]:
    return sampling(prompt, logits).argmax(1).tolist()


def test_a_row_alone_draws_what_it_draws_in_company() -> None:
    sampling = SeededSampling(3, 1.0)
    together = sampling(PROMPT, LOGITS)
    for row in range(2):
        assert torch.equal(sampling(PROMPT[row : row + 1], LOGITS[:1])[0], together[row])


def test_left_padding_changes_nothing() -> None:
    padded = torch.tensor([[0, 0, 3, 4, 5]])
    sampling = SeededSampling(3, 1.0, pad=0)
    assert torch.equal(sampling(padded, LOGITS[:1]), sampling(PROMPT[:1], LOGITS[:1]))


def test_seed_prompt_and_step_each_change_the_noise() -> None:
    base = SeededSampling(0, 1.0)(PROMPT[:1], LOGITS[:1])
    assert not torch.equal(base, SeededSampling(1, 1.0)(PROMPT[:1], LOGITS[:1]))
    assert not torch.equal(base, SeededSampling(0, 1.0)(PROMPT[1:], LOGITS[:1]))
    longer = torch.tensor([[3, 4, 5, 9]])
    assert not torch.equal(base, SeededSampling(0, 1.0)(longer, LOGITS[:1]))


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_temperature_at_which_nothing_can_be_drawn_is_refused(temperature: float) -> None:
    with pytest.raises(InputError, match="not possible"):
        Settings(8, temperature, seed=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    n = 4000
    prompts = torch.arange(n).unsqueeze(1)
    drawn = draw(SeededSampling(0, temperature), prompts, LOGITS[:1].repeat(n, 1))
    counts = torch.bincount(torch.tensor(drawn), minlength=4) / n
    expected = (LOGITS[0] / temperature).softmax(0)
    # four standard errors of a proportion at n = 4000
    assert (counts - expected).abs().max() < 4 * 0.5 / n**0.5


def test_top_k_and_top_p_keep_only_the_most_probable() -> None:
    prompts = torch.arange(500).unsqueeze(1)
    logits = LOGITS[:1].repeat(500, 1)
    assert set(draw(SeededSampling(0, 2.0, top_k=2), prompts, logits)) == {0, 1}
    assert set(draw(SeededSampling(0, 1.0, top_p=0.7), prompts, logits)) == {0, 1}
    assert set(draw(SeededSampling(0, 1.0, top_p=0.0), prompts, logits)) == {0}
    assert set(draw(SeededSampling(0, 5.0, top_k=99, top_p=1.0), prompts, logits)) == {0, 1, 2, 3}


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    SeededSampling(0, 1.0)(PROMPT, LOGITS)
    assert torch.equal(before, torch.get_rng_state())
