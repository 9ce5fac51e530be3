"""Split a padded batch of prompts into rows without padding, change them, and pad again.

Every tensor with one entry per token is changed along with the tokens; nothing is decoded and
re-encoded. What to write is decided elsewhere; `prompt_tokens` knows where it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safesight.errors import InputError
from safesight.generation.calls import refuse_begun, setting, with_mask
from safesight.models.prompt_checks import check_length

if TYPE_CHECKING:
    from safesight.generation.call_types import Inputs
    from safesight.models import VLM

__all__ = [
    "PromptRow",
    "Splice",
    "common_prefix",
    "padded",
    "prompt_rows",
    "rewrite_rows",
    "spliced",
]

Tokens = list[int]

PromptRow = dict[str, Tensor]
"""One prompt without padding: `input_ids` and other tensors with an entry per token, L each."""

_PER_TOKEN = {"attention_mask": 1, "token_type_ids": 0, "mm_token_type_ids": 0}
"""Other tensors of shape B x L, and their value at a text token."""


@dataclass(frozen=True)
class Splice:
    """Replaces the tokens of a row from `start` up to, not including, `stop`."""

    start: int
    stop: int
    tokens: Sequence[int]


Writer = Callable[[Tokens], Splice]
"""Maps the tokens of one prompt, without padding, to the change to make in it."""


def rewrite_rows(vlm: VLM, inputs: Inputs, write: Writer) -> Inputs:
    """The inputs with the prompt of every row changed and padded on the left again.

    Args:
        vlm: The model that will answer.
        inputs: The arguments of the `generate` call; not changed.
        write: Returns the change for one row.

    Raises:
        InputError: there are no token ids, a row does not follow the chat template, a cache
            holds part of the prompt, or a tensor with one entry per token is unknown.
    """
    refuse_begun(inputs, "A defense rewrites the whole prompt")
    rows = prompt_rows(vlm, inputs)
    return padded(vlm, inputs, [spliced(row, write(row["input_ids"].tolist())) for row in rows])


def prompt_rows(vlm: VLM, inputs: Inputs) -> list[PromptRow]:
    """Every row of a batch, without padding.

    Raises:
        InputError: there are no token ids, or a tensor with one entry per token is unknown.
    """
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        raise InputError(
            "A defense that rewrites the prompt needs input_ids. "
            "Pass the processor's output to model.generate(**inputs)."
        )
    _refuse_unknown(inputs, ids)
    mask = with_mask(vlm, inputs).get("attention_mask", torch.ones_like(ids))
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
    """The row with some of its tokens replaced by text tokens.

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
    """The inputs with these rows as prompts, padded on the left; length settings are adjusted.

    Raises:
        InputError: a row is longer than the model's context.
    """
    length = max(len(row["input_ids"]) for row in rows)
    check_length(vlm.name, vlm.context_length, length)
    padding = dict.fromkeys(rows[0], 0) | {"input_ids": vlm.tokenizer.pad_token_id}
    new = {
        name: torch.stack([_left_padded(row[name], length, padding[name]) for row in rows])
        for name in rows[0]
    }
    changed = {**inputs, **new}
    for name in ("max_length", "min_length"):
        total = setting(vlm, inputs, name)
        if total:
            changed[name] = total + length - inputs["input_ids"].shape[1]
    return changed


def common_prefix(rows: Sequence[Tokens]) -> Tokens:
    """What all rows begin with.

    Example:
        >>> common_prefix([[1, 2, 3], [1, 2]])
        [1, 2]
    """
    length = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return rows[0][:length]


def _left_padded(values: Tensor, length: int, fill: int) -> Tensor:
    return torch.cat([values.new_full((length - len(values),), fill), values])


def _refuse_unknown(inputs: Inputs, ids: Tensor) -> None:
    for name, value in inputs.items():
        known = name in _PER_TOKEN or name == "input_ids"
        if isinstance(value, Tensor) and not known and value.shape[:2] == ids.shape:
            raise InputError(
                f"A defense that rewrites the prompt cannot extend {name}, which has one entry per "
                "token. Leave it out, or use another kind of defense."
            )
