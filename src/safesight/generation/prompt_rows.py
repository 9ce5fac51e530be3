"""A padded batch of prompts as rows of their own length, changed, and padded again.

Every tensor with one entry a token goes along: nothing is decoded and encoded again.
What is written, and where a chat template has a place for it, is decided elsewhere:
`prompt_tokens` knows the places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safesight.errors import InputError

if TYPE_CHECKING:
    from safesight.generation.call_types import Inputs
    from safesight.models import VLM

__all__ = ["PromptRow", "Splice", "padded", "prompt_rows", "rewrite_rows", "spliced"]

Tokens = list[int]

PromptRow = dict[str, Tensor]
"""One prompt without padding: `input_ids` and every other tensor with an entry a token, L each."""

_PER_TOKEN = {"attention_mask": 1, "token_type_ids": 0, "mm_token_type_ids": 0}
"""Tensors of shape B x L beside the tokens, and their value at a token of text."""


@dataclass(frozen=True)
class Splice:
    """Replace the tokens from `start` to before `stop` of a row."""

    start: int
    stop: int
    tokens: Sequence[int]


Writer = Callable[[Tokens], Splice]
"""From the tokens of one prompt, without padding, to what is to be changed in it."""


def rewrite_rows(vlm: VLM, inputs: Inputs, write: Writer) -> Inputs:
    """The inputs with every row's prompt changed and padded on the left again.

    Args:
        vlm: The model they are for.
        inputs: What `generate` was called with; it is not changed.
        write: Decides on one row at a time.

    Raises:
        InputError: there are no token ids, a row does not follow the chat template, or
            there is a tensor with one entry a token whose meaning is not known.
    """
    rows = prompt_rows(vlm, inputs)
    return padded(vlm, inputs, [spliced(row, write(row["input_ids"].tolist())) for row in rows])


def prompt_rows(vlm: VLM, inputs: Inputs) -> list[PromptRow]:
    """Every row of a batch, without padding.

    Raises:
        InputError: there are no token ids, or there is a tensor with one entry a token whose
            meaning is not known.
    """
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        raise InputError(
            "A defense that rewrites the prompt needs input_ids. "
            "Pass model.generate(**inputs) what the processor returned."
        )
    _refuse_unknown(inputs, ids)
    mask = _mask(vlm, inputs, ids)
    per_token = {
        name: inputs[name]
        for name in ("input_ids", *_PER_TOKEN)
        if isinstance(inputs.get(name), Tensor)
    }
    per_token["attention_mask"] = mask.to(per_token.get("attention_mask", ids).dtype)
    return [
        {name: values[row][mask[row].bool()] for name, values in per_token.items()}
        for row in range(len(ids))
    ]


def spliced(row: PromptRow, splice: Splice) -> PromptRow:
    """The row with tokens of text in place of some of its own.

    Example:
        >>> row = {"input_ids": torch.tensor([1, 2, 3])}
        >>> spliced(row, Splice(1, 2, [8, 9]))["input_ids"].tolist()
        [1, 8, 9, 3]
    """
    parts = {}
    for name, old in row.items():
        if name == "input_ids":
            middle = old.new_tensor(list(splice.tokens))
        else:
            middle = old.new_full((len(splice.tokens),), _PER_TOKEN[name])
        parts[name] = torch.cat([old[: splice.start], middle, old[splice.stop :]])
    return parts


def padded(vlm: VLM, inputs: Inputs, rows: Sequence[PromptRow]) -> Inputs:
    """The inputs with these rows for a prompt, padded on the left; lengths asked for grow along."""
    length = max(len(row["input_ids"]) for row in rows)
    padding = dict.fromkeys(rows[0], 0) | {"input_ids": vlm.tokenizer.pad_token_id}
    new = {
        name: torch.stack([_left_padded(row[name], length, padding[name]) for row in rows])
        for name in rows[0]
    }
    changed = {**inputs, **new}
    for name in ("max_length", "min_length"):
        if inputs.get(name) is not None:
            changed[name] = inputs[name] + length - inputs["input_ids"].shape[1]
    return changed


def _left_padded(values: Tensor, length: int, fill: int) -> Tensor:
    return torch.cat([values.new_full((length - len(values),), fill), values])


def _mask(vlm: VLM, inputs: Inputs, ids: Tensor) -> Tensor:
    mask = inputs.get("attention_mask")
    if isinstance(mask, Tensor):
        return mask
    pad = vlm.tokenizer.pad_token_id
    return ids.ne(pad) if pad != vlm.tokenizer.eos_token_id else torch.ones_like(ids)


def _refuse_unknown(inputs: Inputs, ids: Tensor) -> None:
    for name, value in inputs.items():
        known = name in _PER_TOKEN or name == "input_ids"
        if isinstance(value, Tensor) and not known and value.shape[:2] == ids.shape:
            raise InputError(
                f"A defense that rewrites the prompt cannot extend {name}, which has one entry for "
                "each token. Leave it out, or use a defense of another kind."
            )
