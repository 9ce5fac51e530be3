"""Ask the model under test something else about the same prompts, while it answers them.

A pipeline may want to know what the model thinks of its own answer, what it sees in the
picture, or what it would say without the picture. The prompts it has are token ids: here
the last question's words are exchanged in them, with the pictures left in or taken out.
System turn, earlier turns and pictures keep their tokens. Which questions are asked, and
what follows from the answers, is decided by the defenses that use this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from safesight.generation.answers import sequences_of
from safesight.generation.calls import prompt_of
from safesight.generation.prompt_rows import PromptRow, Splice, padded, prompt_rows, spliced
from safesight.generation.prompt_tokens import question_reader, question_renderer

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["ask", "has_picture", "in_words", "questions_of", "says_yes", "with_pictures"]


def questions_of(vlm: VLM, inputs: Inputs) -> list[str]:
    """The words of every row's last question.

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
        vlm: The model they are for.
        inputs: What `generate` was called with; it is not changed.
        texts: One a row. Words that stand before a picture stay where they are.

    Raises:
        InputError, ModelError: as for `questions_of`.
    """
    read, render = question_reader(vlm), question_renderer(vlm)

    def rewritten(row: PromptRow, text: str) -> PromptRow:
        start = read(row["input_ids"].tolist()).text_start
        return spliced(row, Splice(start, len(row["input_ids"]), render(text)))

    rows = prompt_rows(vlm, inputs)
    return padded(vlm, inputs, [rewritten(*pair) for pair in zip(rows, texts, strict=True)])


def in_words(vlm: VLM, inputs: Inputs, texts: Sequence[str], rows: Sequence[int]) -> Inputs:
    """The same call for some rows with other questions and no pictures.

    A conversation with a picture in an earlier turn is cut down to its last question.

    Args:
        vlm: The model they are for.
        inputs: What `generate` was called with; it is not changed.
        texts: One for each of `rows`.
        rows: Which rows, in the order in which they come back.

    Raises:
        InputError, ModelError: as for `questions_of`.
    """
    read, render = question_reader(vlm), question_renderer(vlm)
    alone = question_renderer(vlm, whole=True)

    def rewritten(row: PromptRow, text: str) -> PromptRow:
        tokens = row["input_ids"].tolist()
        start = read(tokens).start
        if vlm.image_token_id in tokens[:start]:
            return spliced(row, Splice(0, len(tokens), alone(text)))
        return spliced(row, Splice(start, len(tokens), render(text)))

    all_rows = prompt_rows(vlm, inputs)
    chosen = [rewritten(all_rows[row], text) for row, text in zip(rows, texts, strict=True)]
    pictures = prompt_of(vlm, inputs).keys() - all_rows[0].keys()
    kept = {name: value for name, value in inputs.items() if name not in pictures}
    return padded(vlm, kept, chosen)


def has_picture(vlm: VLM, inputs: Inputs) -> Tensor:
    """Whether there is a picture in a row: B, bool."""
    shown: Tensor = vlm.image_mask(inputs).any(dim=1)
    return shown


def ask(generate: Generate, vlm: VLM, inputs: Inputs, max_new_tokens: int) -> list[str]:
    """Short greedy answers to the prompts of a call, whose settings are left out."""
    output = generate(
        **prompt_of(vlm, inputs),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        return_dict_in_generate=False,
        pad_token_id=vlm.tokenizer.pad_token_id,
    )
    length: int = inputs["input_ids"].shape[1]
    answers: list[str] = vlm.decode(sequences_of(output), length)
    return answers


def says_yes(answer: str) -> bool | None:
    """What the first word of an answer says: yes, no, or (None) neither.

    Example:
        >>> says_yes("Yes, it is."), says_yes(" no"), says_yes("yesterday")
        (True, False, None)
    """
    found = re.match(r"\W*(yes|no)\b", answer, re.IGNORECASE)
    return None if found is None else found[1].lower() == "yes"
