"""Insert tool calls, and the pictures they return, into prompts that are already tokenized.

A protected `generate` sees tokens and picture tensors, not messages. The question's own tokens and
pixels stay the same, bit for bit: the tool offer is spliced in where the chat template puts it, and
call and result go after the prompt, taken from a short conversation that the processor encodes
around the returned picture. So each model family's own processor produces its placeholders and
pixel layout. The tool works on the picture as the model saw it (see
`safesight.models.picture_tensors`): from the original file, a zoom could show detail that the
processor has already discarded, but a `generate` call has no file. `image_tools` decides which call
is made.
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
from safesight.generation.shown_pictures import shown_pictures
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
    """One row being prepared for its answer."""

    row: PromptRow
    tensors: PictureTensors
    pictures: tuple[Image.Image, ...] = ()
    """What tools may look at: the pictures of the prompt, then the returned ones. Empty for
    a prompt without a picture, which is left alone."""
    own: int = 0
    """How many of them are the prompt's."""


def looks(vlm: VLM, inputs: Inputs) -> list[Look]:
    """The rows of a batch.

    Raises:
        InputError: there are no token ids, or the pictures cannot be read back one by one.
    """
    found = []
    for row, own in zip(prompt_rows(vlm, inputs), split_pictures(vlm, inputs), strict=True):
        shown = shown_pictures(vlm, row["input_ids"].tolist(), own)
        pictures = tuple(last_picture(vlm, each.tensors) for each in shown)
        found.append(Look(row, own, pictures, len(pictures)))
    return found


def as_inputs(vlm: VLM, inputs: Inputs, rows: Sequence[Look]) -> Inputs:
    """The inputs for `generate`, with these rows replacing the original prompt."""
    batch = padded(vlm, inputs, [look.row for look in rows])
    return {**batch, **join_pictures([look.tensors for look in rows])}


def offer_writer(vlm: VLM, setup: ToolSetup) -> Writer:
    """A writer of the tool offer in the model's own format."""
    if setup.format == "template":
        return tools_writer(vlm, setup.schemas)
    return system_writer(vlm, setup.block)


def with_offer(look: Look, write: Writer) -> Look:
    """Add the tool offer to a row.

    Raises:
        InputError: the row does not start as the chat template would write it.
    """
    return replace(look, row=spliced(look.row, write(look.row["input_ids"].tolist())))


def with_traces(
    vlm: VLM, setup: ToolSetup, rows: Sequence[Look], traces: Mapping[int, tuple[str, Returned]]
) -> list[Look]:
    """Append a call and its result to each row that made a call.

    Args:
        vlm: The model.
        setup: How results are shown to the model.
        rows: All rows.
        traces: Maps rows to the text of their call and its result.

    Raises:
        InputError: a row does not end where an answer would begin.
        ModelError: the chat template does not append an answer to the prompt it answers.
    """
    extended = list(rows)
    order = list(traces)
    if not order:
        return extended
    turns = {index: _harmless(vlm, *traces[index]) for index in order}
    question = continuation(vlm, [rows[index].row["input_ids"].tolist() for index in order])
    ask = {"role": "user", "content": [{"type": "text", "text": SHORTEST}]}
    asked = [[ask, *setup.trace(*turns[index])] for index in order]
    inputs = vlm.encode(asked, tags=setup.tags)
    longer, returned = prompt_rows(vlm, dict(inputs)), split_pictures(vlm, inputs)
    for index, row, tensors in zip(order, longer, returned, strict=True):
        if row["input_ids"][: len(question)].tolist() != question:
            raise ModelError(
                f"The chat template of {vlm.name!r} does not append an answer to its prompt, so "
                "no tool call can be inserted. Use another defense."
            )
        extended[index] = _extended(rows[index], row, len(question), tensors, traces[index][1])
    return extended


def _harmless(vlm: VLM, text: str, returned: Returned) -> tuple[str, Returned]:
    """Call and result without the tokenizer's special tokens.

    Text read in a picture, or written by the model, must not start another turn.
    """
    marks = [str(token) for token in vlm.tokenizer.added_tokens_decoder.values()]
    for mark in sorted(filter(str.strip, marks), key=len, reverse=True):
        if mark not in (CALL_START, CALL_END):
            text = text.replace(mark, " ")
        if isinstance(returned, str):
            returned = returned.replace(mark, " ")
    return text, returned


def call_tags(vlm: VLM) -> list[list[int]]:
    """The token sequences that begin a call, with and without a space, for `bad_words_ids`."""
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
    joined = join_pictures([look.tensors, tensors], as_rows=False)
    return Look(row, joined, pictures, look.own)
