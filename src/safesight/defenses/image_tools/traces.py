"""Tool calls written into prompts that are tokens already, and the pictures they return.

A protected `generate` sees tokens and picture tensors, not messages. The question's own tokens and
pixels stay as they are, bit for bit: the offer is spliced in where the chat template has it, and
call and result go behind the prompt, taken from a short conversation that the processor encodes
around the returned picture. So every family's placeholders and pixel layout come from its own
processor. The tool works on the picture as the model was shown it (see
`safesight.models.picture_tensors`): with the original file a zoom could show detail that a
processor has already thrown away, but a `generate` call has no file. Which call is made is decided
in `image_tools`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from PIL import Image

from safesight.errors import ModelError
from safesight.generation.prompt_rows import PromptRow, Writer, padded, prompt_rows, spliced
from safesight.generation.prompt_tokens import SHORTEST, continuation, system_writer, tools_writer
from safesight.models.picture_tensors import (
    PictureTensors,
    join_pictures,
    last_picture,
    split_pictures,
)
from safesight.tools import ToolSetup
from safesight.tools.calls import CALL_END, CALL_START, Returned

if TYPE_CHECKING:
    from safesight.generation.call_types import Inputs
    from safesight.models import VLM

__all__ = ["Look", "as_inputs", "call_tags", "looks", "offer_writer", "with_offer", "with_traces"]


@dataclass(frozen=True)
class Look:
    """One row on its way to an answer."""

    row: PromptRow
    tensors: PictureTensors
    pictures: tuple[Image.Image, ...] = ()
    """What tools may look at: the last picture of the prompt, then what was returned. Empty for
    a prompt without a picture, which is left alone."""


def looks(vlm: VLM, inputs: Inputs) -> list[Look]:
    """The rows of a batch.

    Raises:
        InputError: there are no token ids, or a layout of tensors is not known.
    """
    rows, tensors = prompt_rows(vlm, inputs), split_pictures(vlm, inputs)
    return [
        Look(row, own, (last_picture(vlm, own),) if own else ())
        for row, own in zip(rows, tensors, strict=True)
    ]


def as_inputs(vlm: VLM, inputs: Inputs, rows: Sequence[Look]) -> Inputs:
    """What `generate` is to be called with: these rows in place of the prompt that it was given."""
    batch = padded(vlm, inputs, [look.row for look in rows])
    return {**batch, **join_pictures([look.tensors for look in rows])}


def offer_writer(vlm: VLM, setup: ToolSetup) -> Writer:
    """Writes the offer of tools, in the model's own format."""
    if setup.format == "template":
        return tools_writer(vlm, setup.schemas)
    return system_writer(vlm, setup.block)


def with_offer(look: Look, write: Writer) -> Look:
    """The row with tools on offer.

    Raises:
        InputError: the row does not begin as the chat template writes it.
    """
    return replace(look, row=spliced(look.row, write(look.row["input_ids"].tolist())))


def with_traces(
    vlm: VLM, setup: ToolSetup, rows: Sequence[Look], traces: Mapping[int, tuple[str, Returned]]
) -> list[Look]:
    """The rows with a call and its result behind those that made one.

    Args:
        vlm: The model.
        setup: How it is shown what comes back.
        rows: All rows.
        traces: Row to the text of its call and what that returned.

    Raises:
        InputError: a row does not end where an answer begins.
        ModelError: the chat template does not write an answer behind the prompt it answers.
    """
    extended = list(rows)
    order = list(traces)
    if not order:
        return extended
    turns = {index: _harmless(vlm, *traces[index]) for index in order}
    question = continuation(vlm, [rows[index].row["input_ids"].tolist() for index in order])
    ask = {"role": "user", "content": [{"type": "text", "text": SHORTEST}]}
    inputs = vlm.encode([[ask, *setup.trace(*turns[index])] for index in order])
    longer, returned = prompt_rows(vlm, dict(inputs)), split_pictures(vlm, inputs)
    for index, row, tensors in zip(order, longer, returned, strict=True):
        if row["input_ids"][: len(question)].tolist() != question:
            raise ModelError(
                f"The chat template of {vlm.name!r} does not write an answer behind its prompt, so "
                "no tool call can be written for it. Use another defense."
            )
        extended[index] = _extended(rows[index], row, len(question), tensors, traces[index][1])
    return extended


def _harmless(vlm: VLM, text: str, returned: Returned) -> tuple[str, Returned]:
    """Call and result without the tokenizer's own marks.

    A word read in a picture, or written by the model, must not begin another turn.
    """
    marks = [str(token) for token in vlm.tokenizer.added_tokens_decoder.values()]
    for mark in sorted(filter(str.strip, marks), key=len, reverse=True):
        if mark not in (CALL_START, CALL_END):
            text = text.replace(mark, " ")
        if isinstance(returned, str):
            returned = returned.replace(mark, " ")
    return text, returned


def call_tags(vlm: VLM) -> list[list[int]]:
    """The token sequences that begin a call, for `bad_words_ids`: alone and after a blank."""
    found: list[list[int]] = []
    for text in (CALL_START, f" {CALL_START}"):
        tokens = list(vlm.tokenizer(text, add_special_tokens=False)["input_ids"])
        alone = [token for token in tokens if CALL_START in vlm.tokenizer.decode([token])]
        if (spelling := alone or tokens) not in found:
            found.append(spelling)
    return found


def _extended(
    look: Look, longer: PromptRow, start: int, tensors: PictureTensors, result: Returned
) -> Look:
    row = {name: torch.cat([old, longer[name][start:]]) for name, old in look.row.items()}
    pictures = look.pictures
    if isinstance(result, Image.Image):
        pictures = (*pictures, result)
    return Look(row, join_pictures([look.tensors, tensors], as_rows=False), pictures)
