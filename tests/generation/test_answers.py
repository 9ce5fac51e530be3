"""Refusals written into batches, whatever stood there before."""

from __future__ import annotations

import torch

from safesight.generation.answers import put_back_prompt, refusal_tokens, replace_rows
from tests import tiny

ROWS = torch.tensor([[8, 9, 1, 2, 3, 4], [8, 9, 5, 6, 7, 7], [8, 9, 1, 1, 1, 1]])


def test_nothing_of_a_refused_answer_stays() -> None:
    found = replace_rows(ROWS, 2, {1: [3]}, pad=0)
    assert found.tolist() == [[8, 9, 1, 2, 3, 4], [8, 9, 3, 0, 0, 0], [8, 9, 1, 1, 1, 1]]
    found = replace_rows(ROWS, 2, {0: [5, 5, 5, 5, 5], 2: [6]}, pad=0)
    assert found.tolist() == [
        [8, 9, 5, 5, 5, 5, 5],
        [8, 9, 5, 6, 7, 7, 0],
        [8, 9, 6, 0, 0, 0, 0],
    ]
    found = replace_rows(ROWS, 2, {0: [5], 1: [6, 6], 2: []}, pad=0)
    assert found.tolist() == [[8, 9, 5, 0], [8, 9, 6, 6], [8, 9, 0, 0]]


def test_refusals_end_as_the_model_ends() -> None:
    vlm = tiny.vlm("llava")
    words = vlm.tokenizer("no.", add_special_tokens=False)["input_ids"]
    assert refusal_tokens(vlm, {}, "no.") == [*words, vlm.tokenizer.eos_token_id]
    assert refusal_tokens(vlm, {"eos_token_id": [7, 9]}, "no.") == [*words, 7]
    both = [7, vlm.tokenizer.eos_token_id]
    assert refusal_tokens(vlm, {"eos_token_id": both}, "no.")[-1] == vlm.tokenizer.eos_token_id


def test_prompts_are_put_back_for_every_answer() -> None:
    original, rewritten = torch.tensor([[1], [2]]), torch.tensor([[3, 3], [4, 4]])
    sequences = torch.tensor([[3, 3, 5], [3, 3, 6], [4, 4, 7], [4, 4, 8]])
    found = put_back_prompt(sequences, rewritten, original)
    assert found.tolist() == [[1, 5], [1, 6], [2, 7], [2, 8]]
