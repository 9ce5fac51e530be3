"""Samples whose text spells out the model's image placeholder, found before the first answer.

A model refuses such a text when it is asked (`models.control_tokens`), which would end a run
halfway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from safesight.errors import InputError
from safesight.types import Sample

__all__ = ["check_placeholders"]


def check_placeholders(
    samples: Sequence[Sample], placeholders: re.Pattern[str], benchmark: str, model: str
) -> None:
    """Refuse samples with an image placeholder in one of their texts.

    Args:
        samples: What will be asked.
        placeholders: `ControlTokens.placeholders` of the model.
        benchmark: The name of the benchmark, for the message.
        model: The name of the model, for the message.

    Raises:
        InputError: there are some; the message names the first and says how many there are.

    Example:
        >>> sample = Sample(id="1", question="what is this?", label="benign", target="")
        >>> check_placeholders([sample], re.compile("<image>"), "mine", "testbed")
    """
    found = [
        (sample.id, match[0])
        for sample in samples
        if (match := next(filter(None, map(placeholders.search, _texts(sample))), None))
    ]
    if not found:
        return
    first, placeholder = found[0]
    about, one = f"the image placeholder {placeholder!r} of {model}", len(found) == 1
    raise InputError(
        (
            f"The text of sample {first!r} of {benchmark} contains {about}. "
            if one
            else f"The texts of {len(found)} samples of {benchmark} contain {about}, the first "
            f"that of {first!r}. "
        )
        + "Remove it: a picture is a separate part of the message."
    )


def _texts(sample: Sample) -> Iterator[str]:
    for each in sample.tries():
        yield from (each.question, each.system or "", each.prefill or "")
        for turn in each.turns:
            yield from (part["text"] for part in turn["content"] if part["type"] == "text")
