"""Read an answer back to the model without its picture: the states at the answer's own tokens.

A picture moves such states only through the words that were written about it. Used by defenses that
judge an answer; they choose the blocks and decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safesight.activations import resid_post
from safesight.errors import ModelError
from safesight.generation.calls import as_ids, run_prefill, setting
from safesight.generation.prompt_rows import Splice, padded, prompt_rows, spliced

if TYPE_CHECKING:
    from safesight.generation.call_types import Inputs
    from safesight.models import VLM

__all__ = ["answer_states", "answer_tokens"]


def answer_tokens(vlm: VLM, inputs: Inputs, written: Sequence[int]) -> list[int]:
    """The words of an answer as generate wrote it: up to its end, without special tokens.

    Args:
        vlm: The model that wrote it.
        inputs: The arguments of the call.
        written: The tokens behind the prompt in one row.
    """
    ends = {*as_ids(setting(vlm, inputs, "eos_token_id")), vlm.tokenizer.eos_token_id}
    silent = {*vlm.tokenizer.all_special_ids, vlm.image_token_id}
    found: list[int] = []
    for token in written:
        if token in ends:
            break
        if token not in silent:
            found.append(token)
    return found


def answer_states(
    vlm: VLM, prompts: Inputs, answers: Sequence[Sequence[int]], layers: Sequence[int]
) -> list[Tensor]:
    """The outputs of blocks at every token of answers, in one undefended pass.

    Args:
        vlm: The model that reads them.
        prompts: Prompts without pictures, each up to where its answer begins.
        answers: The tokens of an answer to each; may be empty.
        layers: The blocks.

    Returns:
        For each row tokens x layers x d, float32, on the model's device.

    Raises:
        ModelError: the model runs one of the blocks on the last token alone.
    """
    rows = [
        spliced(row, Splice(len(row["input_ids"]), len(row["input_ids"]), tokens))
        for row, tokens in zip(prompt_rows(vlm, prompts), answers, strict=True)
    ]
    read = padded(vlm, prompts, rows)  # on the left, so that every answer stands at the end
    length = read["input_ids"].shape[1]
    sites = [resid_post(layer) for layer in layers]
    _, prefill = run_prefill(vlm, read, sites, None)
    states = []
    for site in sites:
        if prefill.states[site].shape[1] != length:
            raise ModelError(
                f"The states of all tokens after block {site.layer} are needed, but in a "
                "generation this model runs it on the last token alone. Choose an earlier layer."
            )
        states.append(prefill.states[site].float().to(vlm.device))
    together = torch.stack(states, dim=2)
    return [together[row, length - len(tokens) :] for row, tokens in enumerate(answers)]
