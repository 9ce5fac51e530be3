"""Answers of a batch as they are written: who hears what, and who has gone.

`BatchStreams` sits behind `generate` as its streamer. It turns tokens into text, row by row, and
settles a row as soon as its answer has ended, while others go on. What a caller has heard is
always the beginning of the answer that it gets in the end: the end of a word of several tokens,
spaces at the end, and what may be the beginning of a stop string are held back. Of a refusal they
hear nothing before they get it as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safesight.generation.row_streams import RowStreamer

if TYPE_CHECKING:
    from safesight.generation.prefill import Decision

__all__ = ["BatchStreams", "Caller", "StreamRow", "cut_at", "held_back"]

_UNFINISHED = "\ufffd"
"""What the beginning of a character of several bytes decodes to."""


class Caller:
    """Someone who waits for one answer: hears pieces of it, and may go at any time.

    Args:
        hear: Called with each piece of text, in the thread that generates.
    """

    def __init__(self, hear: Callable[[str], None] = lambda piece: None) -> None:
        self._hear = hear
        self._heard = ""
        self._gone = threading.Event()

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._gone.is_set()

    @property
    def heard(self) -> bool:
        """Whether something of an answer has been heard, so that no other can be given."""
        return bool(self._heard)

    def leave(self) -> None:
        """Stop waiting; the row ends at its next token."""
        self._gone.set()

    def tell(self, text: str) -> None:
        """Let the caller hear what is new in the answer so far.

        Example:
            >>> pieces: list[str] = []
            >>> caller = Caller(pieces.append)
            >>> for text in ("a", "a cup", "a cup"):
            ...     caller.tell(text)
            >>> pieces
            ['a', ' cup']
        """
        if len(text) > len(self._heard) and text.startswith(self._heard):
            piece, self._heard = text[len(self._heard) :], text
            self._hear(piece)


@dataclass(frozen=True)
class StreamRow:
    """A row of a batch that is followed token by token."""

    caller: Caller
    max_tokens: int
    """The answer ends after this many tokens."""
    stop: Sequence[str] = ()
    """Strings that end the answer and are no part of it."""

    def ended(self, length: int, text: str) -> bool:
        """Whether an answer of so many tokens, with this text, goes no further."""
        stopped = any(stop in text for stop in self.stop)
        return stopped or length >= self.max_tokens or self.caller.gone


class _RowEnds:
    """The stopping criterion of rows that a defense answers before anyone may hear them."""

    def __init__(self, rows: Sequence[StreamRow], decode: Callable[[Sequence[int]], str]) -> None:
        self._rows, self._decode = rows, decode
        self._prompt: int | None = None

    def for_rows(self, rows: Sequence[int]) -> _RowEnds:
        """That of some of the rows, in another generation."""
        return _RowEnds([self._rows[row] for row in rows], self._decode)

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        """True for rows whose answer has ended, or whose caller has gone."""
        if self._prompt is None:
            self._prompt = input_ids.shape[1] - 1
        length = input_ids.shape[1] - self._prompt
        texts = [
            self._decode(tokens[self._prompt :].tolist()) if row.stop else ""
            for row, tokens in zip(self._rows, input_ids, strict=True)
        ]
        ended = [row.ended(length, text) for row, text in zip(self._rows, texts, strict=True)]
        return torch.tensor(ended, device=input_ids.device)


class BatchStreams(RowStreamer):
    """The streamer of a batch, and the stopping criterion of rows that have ended.

    Args:
        rows: One per row of the batch.
        decode: Tokens to text, without special tokens and spaces around it.
        ends: The tokens that end an answer.
        settle: Called once for each row whose answer has ended, with its number, its tokens and
            the decisions of all detectors.
    """

    def __init__(
        self,
        rows: Sequence[StreamRow],
        *,
        decode: Callable[[Sequence[int]], str],
        ends: Sequence[int],
        settle: Callable[[int, list[int], Mapping[str, Decision]], None],
    ) -> None:
        self._rows, self._decode, self._ends, self._settle = rows, decode, set(ends), settle
        self._tokens: list[list[int]] = [[] for _ in rows]
        self._over = [False] * len(rows)
        self._decisions: Mapping[str, Decision] = {}
        self._begun = False

    def judged(self, decisions: Mapping[str, Decision]) -> None:
        """Keep the decisions for the rows that end."""
        self._decisions = decisions

    def put(self, tokens: Tensor) -> None:
        """Hear one token of every row; the prompts are skipped."""
        if not self._begun:
            self._begun = True
            return
        for row, token in enumerate(tokens.tolist()):
            if not self._over[row]:
                self._tokens[row].append(token)
                self._hear(row)

    def replace(self, row: int, tokens: Sequence[int]) -> None:
        """Hear a whole answer at once; only a refusal may be longer than was asked for."""
        if not self._over[row]:
            refused = any(bool(each.refuse[row]) for each in self._decisions.values())
            most = len(tokens) if refused else self._rows[row].max_tokens
            self._tokens[row] = list(tokens[:most])
            self._finish(row)

    def end(self) -> None:
        """Nothing: the reader of the sequences settles the rows that have not ended."""

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        """The stopping criterion: True for rows that have ended, or whose caller has gone."""
        done = [over or row.caller.gone for over, row in zip(self._over, self._rows, strict=True)]
        return torch.tensor(done, device=input_ids.device)

    def for_rows(self, rows: Sequence[int]) -> _RowEnds:
        """The stopping criterion of one more generation about some of the rows."""
        return _RowEnds([self._rows[row] for row in rows], self._decode)

    def _hear(self, row: int) -> None:
        tokens, asked = self._tokens[row], self._rows[row]
        text = self._decode(tokens)
        if tokens[-1] in self._ends or asked.ended(len(tokens), text):
            self._finish(row)
            return
        shown = text.rstrip(_UNFINISHED)
        asked.caller.tell(shown[: len(shown) - held_back(shown, asked.stop)].rstrip())

    def _finish(self, row: int) -> None:
        self._over[row] = True
        self._settle(row, self._tokens[row], self._decisions)


def cut_at(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text up to the first stop string, and whether there is one.

    Example:
        >>> cut_at("one. two. END", ["END", "two"])
        ('one. ', True)
    """
    found = [text.find(each) for each in stop if each in text]
    return (text[: min(found)], True) if found else (text, False)


def held_back(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of a text may be the beginning of a stop string.

    Example:
        >>> held_back("the answer is E", ["END"]), held_back("the answer", ["END"])
        (1, 0)
    """
    return max((_begun(text, each) for each in stop), default=0)


def _begun(text: str, stop: str) -> int:
    """How much of a stop string, though not all of it, a text ends with.

    A stop string may be far longer than the text: only as much as the text has is compared.
    """
    for start in range(max(0, len(text) - len(stop) + 1), len(text)):
        if stop.startswith(text[start:]):
            return len(text) - start
    return 0
