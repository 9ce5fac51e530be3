"""Write into prompts that are tokens already, at places the chat template defines.

A protected `generate` sees token ids, not messages. What a chat template puts before
and after a question is found by rendering short conversations; rows are cut there and
the new tokens go in. Nothing is decoded and encoded again, so image placeholders and
the question's own tokens keep their ids. Rows that do not follow the template are
refused with an error. Which text goes where is decided by the defenses that use this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.errors import InputError, ModelError

if TYPE_CHECKING:
    from safesight.defenses.base import Inputs
    from safesight.models import VLM

__all__ = ["Splice", "rewrite_rows", "system_writer", "wrapped_question_writer"]

Tokens = list[int]

_SENTINELS = ("x", "7", "?", "I", "how", "the")
"""Short questions, no two alike to a tokenizer that glues them to what stands before them."""
_ENDINGS = ("x", "x?", "x.", "x!", 'x"', "x)", "x:")
"""Some tokenizers glue the end of a question to what stands after it."""
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
    rows = [_spliced(per_token, row, mask[row].bool(), write) for row in range(len(ids))]
    length = max(len(row["input_ids"]) for row in rows)
    padding = dict.fromkeys(per_token, 0) | {"input_ids": vlm.tokenizer.pad_token_id}
    new = {
        name: torch.stack([_left_padded(row[name], length, padding[name]) for row in rows])
        for name in per_token
    }
    changed = {**inputs, **new}
    for name in ("max_length", "min_length"):
        if inputs.get(name) is not None:
            changed[name] = inputs[name] + length - ids.shape[1]
    return changed


def system_writer(vlm: VLM, text: str) -> Writer:
    """Writes `text` as the system turn, or before the text of the one that is there.

    A template without a system role gets it at the beginning of the first user turn.
    """
    plain = _common_prefix([_render(vlm, _user(s)) for s in _SENTINELS])
    try:
        with_system = [_render(vlm, _system(text), _user(s)) for s in _SENTINELS]
        header = _common_prefix([_render(vlm, _system(s), _user("x")) for s in _SENTINELS])
        before = [_render(vlm, _system(f"{text}\n\n{s}"), _user("x")) for s in _SENTINELS]
    except InputError:
        with_system, header, before = [], [], []
    opening = _common_prefix(with_system) if with_system else plain
    if opening == plain:  # there is no system role, or it is left out in silence
        opening = _common_prefix([_render(vlm, _user(f"{text}\n\n{s}")) for s in _SENTINELS])
        header, before = [], []
    inserted = _common_prefix(before)[len(header) :] if before else []

    def write(row: Tokens) -> Splice:
        if row[: len(plain)] == plain:
            return Splice(0, len(plain), opening)
        if header and row[: len(header)] == header:
            return Splice(len(header), len(header), inserted)
        raise _not_by_template("begin")

    return write


def wrapped_question_writer(vlm: VLM, text: str) -> Writer:
    """Writes `text` after the last question, and the question's own text on a new line after that.

    Raises:
        ModelError: the template writes nothing after a question, so its end cannot be found.
    """
    ends = {e: _render(vlm, _user(e)) for e in _ENDINGS}
    closing = _common_suffix(list(ends.values()))
    opening = _question_opening(vlm)
    if not closing or not opening:
        raise ModelError(
            f"The chat template of {vlm.name!r} does not mark where a question begins and ends, "
            "so nothing can be written after it. Use another defense."
        )
    inserted: dict[tuple[int, ...], Tokens] = {}
    for ending, plain in ends.items():
        longer = _common_prefix([_render(vlm, _user(f"{ending} {text}\n{s}")) for s in _SENTINELS])
        kept = len(_common_prefix([plain[: -len(closing)], longer]))
        inserted.setdefault(tuple(plain[kept : -len(closing)]), longer[kept:])
    glued = sorted(inserted, key=len, reverse=True)

    def write(row: Tokens) -> Splice:
        end = len(row) - len(closing)
        if row[end:] != closing:
            raise _not_by_template("end")
        start = _last_match(row[:end], opening)
        if start is None:
            raise _not_by_template("begin")
        question = _words(vlm, row[start:end])
        for tail in glued:
            if tuple(row[end - len(tail) : end]) == tail:
                return Splice(end - len(tail), end, [*inserted[tail], *question])
        raise _not_by_template("end")

    return write


def _spliced(
    per_token: dict[str, Tensor], row: int, real: Tensor, write: Writer
) -> dict[str, Tensor]:
    """One row of every tensor without its padding, changed."""
    tokens = per_token["input_ids"][row][real].tolist()
    splice = write(tokens)
    parts = {}
    for name, values in per_token.items():
        old = values[row][real]
        if name == "input_ids":
            middle = old.new_tensor(list(splice.tokens))
        else:
            middle = old.new_full((len(splice.tokens),), _PER_TOKEN[name])
        parts[name] = torch.cat([old[: splice.start], middle, old[splice.stop :]])
    return parts


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


def _render(vlm: VLM, *messages: dict[str, Any]) -> Tokens:
    tokens: Tokens = vlm.encode([messages])["input_ids"][0].tolist()
    return tokens


def _turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _user(text: str) -> dict[str, Any]:
    return _turn("user", text)


def _system(text: str) -> dict[str, Any]:
    return _turn("system", text)


def _question_opening(vlm: VLM) -> Tokens:
    """What stands before every question, in the first turn and in later ones."""
    first = _common_prefix([_render(vlm, _user(s)) for s in _SENTINELS])
    history = (_user("x"), _turn("assistant", "x"))
    later = _common_prefix([_render(vlm, *history, _user(s)) for s in _SENTINELS])
    return _common_suffix([first, later])


def _words(vlm: VLM, content: Tokens) -> Tokens:
    """The tokens of a turn that are text: no image placeholders, markers, or blanks around them."""
    decode = vlm.tokenizer.decode
    special = set(vlm.tokenizer.added_tokens_decoder) | {vlm.image_token_id}
    runs: list[Tokens] = [[]]
    for token in content:
        if token in special:
            runs.append([])
        else:
            runs[-1].append(token)
    words = [token for run in runs if decode(run).strip() for token in run]
    first = next((i for i, token in enumerate(words) if decode([token]).strip()), 0)
    return words[first:]


def _common_prefix(rows: Sequence[Tokens]) -> Tokens:
    length = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return rows[0][:length]


def _common_suffix(rows: Sequence[Tokens]) -> Tokens:
    return _common_prefix([row[::-1] for row in rows])[::-1]


def _last_match(row: Tokens, pattern: Tokens) -> int | None:
    """Where the tokens after the last occurrence of `pattern` begin."""
    for start in range(len(row) - len(pattern), -1, -1):
        if row[start : start + len(pattern)] == pattern:
            return start + len(pattern)
    return None


def _not_by_template(where: str) -> InputError:
    return InputError(
        f"A prompt does not {where} as the model's chat template writes it, so a defense that "
        "rewrites prompts cannot find its place. Build inputs with processor.apply_chat_template("
        "..., add_generation_prompt=True)."
    )
