"""Ask the model under test further questions about the prompts it is answering.

A pipeline may want to know what the model thinks of its own answer, what it sees in the
picture, or what it would say without the picture. Its prompts are token ids. This module
replaces the words of the last question in them and keeps or removes the pictures. The system
turn, earlier turns and pictures keep their tokens. The defenses that use it choose the
questions and act on the answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safesight.generation.answers import sequences_of
from safesight.generation.calls import prompt_of, short_answer
from safesight.generation.per_row import for_rows
from safesight.generation.picture_spans import picture_reader
from safesight.generation.prompt_rows import PromptRow, Splice, padded, prompt_rows, spliced
from safesight.generation.prompt_tokens import question_reader, question_renderer
from safesight.models.picture_tensors import join_pictures, split_pictures

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = [
    "ask",
    "has_picture",
    "in_words",
    "introduced",
    "questions_of",
    "row_alone",
    "says_yes",
    "with_pictures",
]


def questions_of(vlm: VLM, inputs: Inputs) -> list[str]:
    """The words of the last question in every row.

    Raises:
        InputError: there are no token ids, or a row does not follow the chat template.
        ModelError: the template does not mark where a question begins and ends.
    """
    read = question_reader(vlm)
    words = [read(row["input_ids"].tolist()).words for row in prompt_rows(vlm, inputs)]
    return [str(vlm.tokenizer.decode(each)).strip() for each in words]


def with_pictures(vlm: VLM, inputs: Inputs, texts: Sequence[str]) -> Inputs:
    """The same call with other questions about the same pictures.

    Args:
        vlm: The model that will answer.
        inputs: The arguments of the `generate` call; not changed.
        texts: One per row. They follow the pictures of the last turn, whose words they replace.

    Raises:
        InputError, ModelError: as for `questions_of`.
    """
    read, render = question_reader(vlm), question_renderer(vlm)

    def rewritten(row: PromptRow, text: str) -> PromptRow:
        tokens = row["input_ids"].tolist()
        question = read(tokens)
        if not question.leading:
            return spliced(row, Splice(question.text_start, len(tokens), render(text)))
        shown = picture_reader(vlm)(tokens)
        kept = _only(row, lambda i: i < question.start or (shown[i] and i < question.text_start))
        length = len(kept["input_ids"])
        return spliced(kept, Splice(length, length, render(text)))

    rows = prompt_rows(vlm, inputs)
    return padded(vlm, inputs, [rewritten(*pair) for pair in zip(rows, texts, strict=True)])


def introduced(vlm: VLM, inputs: Inputs, text: str) -> Inputs:
    """The same call with a text, and a space, before the words of the last question.

    If some of its words stand before a picture, the text comes before those after the last one.

    Raises:
        InputError, ModelError: as for `questions_of`.
    """
    read, render = question_reader(vlm), question_renderer(vlm)

    def rewritten(row: PromptRow) -> PromptRow:
        tokens = row["input_ids"].tolist()
        question = read(tokens)
        words = str(vlm.tokenizer.decode(question.words[len(question.leading) :])).strip()
        longer = render(f"{text} {words}".strip())
        return spliced(row, Splice(question.text_start, len(tokens), longer))

    return padded(vlm, inputs, [rewritten(row) for row in prompt_rows(vlm, inputs)])


def in_words(vlm: VLM, inputs: Inputs, texts: Sequence[str], rows: Sequence[int]) -> Inputs:
    """The same call for some rows, with other questions and no pictures.

    Earlier turns keep their words. Each row keeps its own seed, length and stop strings.

    Args:
        vlm: The model that will answer.
        inputs: The arguments of the `generate` call; not changed.
        texts: One for each of `rows`.
        rows: The rows to keep, in the order of the result.

    Raises:
        InputError, ModelError: as for `questions_of`.
    """
    read, render = question_reader(vlm), question_renderer(vlm)

    def rewritten(row: PromptRow, text: str) -> PromptRow:
        tokens = row["input_ids"].tolist()
        start = read(tokens).start
        kept = spliced(row, Splice(start, len(tokens), []))
        if vlm.image_token_id in tokens[:start]:
            shown = picture_reader(vlm)(tokens)
            kept = _only(kept, lambda i: not shown[i])
        length = len(kept["input_ids"])
        return spliced(kept, Splice(length, length, render(text)))

    all_rows = prompt_rows(vlm, inputs)
    chosen = [rewritten(all_rows[row], text) for row, text in zip(rows, texts, strict=True)]
    pictures = prompt_of(vlm, inputs).keys() - all_rows[0].keys()
    kept = {name: value for name, value in inputs.items() if name not in pictures}
    return padded(vlm, for_rows(kept, rows), chosen)


def _only(row: PromptRow, keeps: Callable[[int], bool]) -> PromptRow:
    """The row with some of its tokens, by their index."""
    kept = torch.tensor([keeps(index) for index in range(len(row["input_ids"]))])
    return {name: values[kept.to(values.device)] for name, values in row.items()}


def row_alone(vlm: VLM, inputs: Inputs, row: int) -> Inputs:
    """The same call for one row, with its pictures, its seed, its length and its stop strings.

    Raises:
        InputError: there are no token ids, or the picture layout is not known.
    """
    rows, pictures = prompt_rows(vlm, inputs), split_pictures(vlm, inputs)
    layout = prompt_of(vlm, inputs).keys() - rows[row].keys()
    kept = {name: value for name, value in inputs.items() if name not in layout}
    alone = padded(vlm, for_rows(kept, [row]), [rows[row]])
    return {**alone, **join_pictures([pictures[row]])}


def has_picture(vlm: VLM, inputs: Inputs) -> Tensor:
    """Whether each row has a picture: B, bool."""
    shown: Tensor = vlm.image_mask(inputs).any(dim=1)
    return shown


def ask(generate: Generate, vlm: VLM, inputs: Inputs, max_new_tokens: int) -> list[str]:
    """Short greedy answers to the prompts of a call; its generation settings are ignored."""
    output = generate(
        **prompt_of(vlm, inputs),
        **short_answer(vlm, max_new_tokens),
        pad_token_id=vlm.tokenizer.pad_token_id,
    )
    length: int = inputs["input_ids"].shape[1]
    answers: list[str] = vlm.decode(sequences_of(output), length)
    return answers


def says_yes(answer: str) -> bool | None:
    """Whether an answer begins with yes (True), no (False) or neither (None).

    Example:
        >>> says_yes("Yes, it is."), says_yes(" no"), says_yes("yesterday")
        (True, False, None)
    """
    found = re.match(r"\W*(yes|no)\b", answer, re.IGNORECASE)
    return None if found is None else found[1].lower() == "yes"
