"""Token arithmetic on what `generate` returns: refusals written in, prompts put back.

Only tensors and token lists. `detectors` decides which rows are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.generation.calls import as_ids, setting
from safesight.generation.row_streams import RowStreamer

if TYPE_CHECKING:
    from safesight.generation.call_types import Inputs
    from safesight.models import VLM

__all__ = [
    "put_back_prompt",
    "refusal_tokens",
    "replace_answers",
    "replace_rows",
    "sequences_of",
    "stream_out",
    "stream_rows",
    "with_sequences",
]


def sequences_of(output: Any) -> Tensor:
    """The token sequences, B x T, in whatever form generate returned them."""
    sequences = output if isinstance(output, Tensor) else output.sequences
    assert isinstance(sequences, Tensor)
    return sequences


def refusal_tokens(vlm: VLM, inputs: Inputs, text: str) -> list[int]:
    """A refusal as the model would have written it: its tokens, then the end-of-turn token."""
    tokenizer = vlm.tokenizer
    tokens: list[int] = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    ends = as_ids(setting(vlm, inputs, "eos_token_id"))
    if not ends:
        return tokens
    own = tokenizer.eos_token_id
    return [*tokens, own if own in ends else ends[0]]


def replace_answers(
    vlm: VLM, inputs: Inputs, output: Any, prompt_length: int, answers: Mapping[int, Sequence[int]]
) -> Any:
    """The output with some rows' answers replaced; the same object if there are none to replace."""
    if not answers:
        return output
    new = replace_rows(sequences_of(output), prompt_length, answers, _pad(vlm, inputs))
    return with_sequences(output, new)


def replace_rows(
    sequences: Tensor, prompt_length: int, answers: Mapping[int, Sequence[int]], pad: int
) -> Tensor:
    """Replace what follows the prompt in some rows; all rows are padded on the right.

    Args:
        sequences: B x T, prompts first.
        prompt_length: Length of the prompt, the same for all rows.
        answers: New tokens by row.
        pad: The padding token.

    Example:
        >>> replace_rows(torch.tensor([[1, 5, 6], [1, 7, 8]]), 1, {1: [9]}, pad=0)
        tensor([[1, 5, 6],
                [1, 9, 0]])
    """
    kept = sequences.shape[1] if len(answers) < len(sequences) else prompt_length
    width = max(kept, *(prompt_length + len(tokens) for tokens in answers.values()))
    new = sequences.new_full((len(sequences), width), pad)
    new[:, :kept] = sequences[:, :kept]
    for row, tokens in answers.items():
        new[row, prompt_length:] = pad
        new[row, prompt_length : prompt_length + len(tokens)] = new.new_tensor(tokens)
    return new


def put_back_prompt(output: Any, rewritten: Tensor, original: Tensor) -> Any:
    """Restore the caller's prompt in place of the rewritten one.

    Callers slice off the answer at the length of the prompt they passed.
    """
    sequences = sequences_of(output)
    copies = len(sequences) // len(original)
    prompt = original.repeat_interleave(copies, dim=0).to(sequences.device)
    return with_sequences(output, torch.cat([prompt, sequences[:, rewritten.shape[1] :]], dim=1))


def stream_rows(streamer: Any, inputs: Inputs, answers: Sequence[Sequence[int]]) -> None:
    """Feed finished answers, one per row, to a streamer of one prompt or of a batch."""
    if not isinstance(streamer, RowStreamer):
        stream_out(streamer, inputs, answers[0])
        return
    for row, tokens in enumerate(answers):
        streamer.replace(row, tokens)
    streamer.end()


def stream_out(streamer: Any, inputs: Inputs, tokens: Sequence[int]) -> None:
    """Feed one row's prompt and answer to a streamer, token by token, as generate would."""
    streamer.put(inputs["input_ids"].cpu())
    for token in tokens:
        streamer.put(torch.tensor([token]))
    streamer.end()


def with_sequences(output: Any, sequences: Tensor) -> Any:
    """The output of generate with other sequences, in the form in which it returned them."""
    if isinstance(output, Tensor):
        return sequences
    output.sequences = sequences
    return output


def _pad(vlm: VLM, inputs: Inputs) -> int:
    tokenizer = vlm.tokenizer
    for value in (setting(vlm, inputs, "pad_token_id"), tokenizer.pad_token_id):
        if value is not None:
            return int(value)
    return (as_ids(setting(vlm, inputs, "eos_token_id")) or [0])[0]
