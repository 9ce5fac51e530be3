"""Texts that are far too long for the model, found before they reach the thread that generates.

There, they would be encoded again for each choice while everybody else waits. The exact limit is
the host's to check, on the whole prompt. Here, only as much of a text is read as it takes to know
that twice the context is full.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safesight.errors import LengthError

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["PromptLengths"]

_PIECE = 10_000
"""Characters that are encoded at once."""


class PromptLengths:
    """Counts the tokens of texts, in any thread.

    Args:
        vlm: The model. Its tokenizer is copied: the thread that generates sets the padding of its
            own, and no other thread may encode meanwhile.
    """

    def __init__(self, vlm: VLM) -> None:
        self._name, self._limit = vlm.name, vlm.context_length
        self._tokenizer = copy.deepcopy(getattr(vlm.tokenizer, "backend_tokenizer", None))
        if self._tokenizer is not None:
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()

    def check(self, texts: Sequence[str]) -> None:
        """Refuse texts with more than twice as many tokens as the model was made for.

        Twice, since the pieces that are counted may have a few tokens more than the whole.

        Raises:
            LengthError: they have more.
        """
        if self._limit is None or self._tokenizer is None:
            return
        most, found = 2 * self._limit, 0
        for text in texts:
            for start in range(0, len(text), _PIECE):
                piece = text[start : start + _PIECE]
                found += len(self._tokenizer.encode(piece, add_special_tokens=False))
                if found > most:
                    raise LengthError(
                        f"The texts have more than {most} tokens, but {self._name!r} was made for "
                        f"at most {self._limit}, with its answer. Shorten them.",
                        self._limit - found,
                    )
