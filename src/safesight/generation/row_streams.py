"""A streamer that hears a whole batch, row by row, as `generate` writes it.

The streamers of `transformers` take one prompt. This one takes as many as the batch has, so a
server can pass on each answer while others are still being written. Whatever a defense puts in
the place of an answer arrives through `replace`, before a single token of that answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from safesight.generation.prefill import Decision

__all__ = ["RowStreamer"]


class RowStreamer(ABC):
    """Base of streamers for batches; `generate` calls `put` and `end`, defenses the rest."""

    def judged(self, decisions: Mapping[str, Decision]) -> None:  # noqa: B027 (may be ignored)
        """Called once, before `replace` and before any token, if there are detectors.

        Args:
            decisions: One decision per detector, on all rows.
        """

    @abstractmethod
    def put(self, tokens: Tensor) -> None:
        """Take the prompts, B x L, and after that one new token per row, B.

        A row that has ended, by its own end token or by `replace`, goes on receiving tokens, which
        mean nothing.
        """

    @abstractmethod
    def replace(self, row: int, tokens: Sequence[int]) -> None:
        """Take the whole answer of a row: these tokens, whatever else arrives for it."""

    @abstractmethod
    def end(self) -> None:
        """Note that nothing more will come; may be called more than once."""
