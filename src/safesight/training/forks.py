"""Where the answers of two sets part: the first token that no answer of the other set would have.

With y the tokens of a row's answer, and y' those of the rows of the other set, the two share

    k = max_{y'} max { j : y_1 ... y_j = y'_1 ... y'_j }

tokens, but at most all of y except the last. The *fork* is the token from which y_{k+1} is
predicted: y_k, or the last token of the prompt if k = 0. Up to there, nothing that was written
tells which set the row belongs to; behind it, the answer itself does. This needs the texts of the
training rows and nothing else, so it is the same for every model with the same tokens.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from safesight.training.batches import Collator, Rows
    from safesight.types import TuningSample

__all__ = ["Forks", "shared"]

Answer = tuple[int, ...]


def shared(answers: Iterable[Answer], others: Iterable[Answer]) -> list[int]:
    """For each answer k: how many of its first tokens also begin one of the others.

    Example:
        >>> shared([(1, 2, 3, 9), (5, 9)], [(1, 2, 4, 9), (1, 9)])
        [2, 0]
        >>> shared([(1, 2)], [(1, 2, 3)])  # never its last token
        [1]
    """
    ordered = sorted(others)
    found = []
    for answer in answers:
        place = bisect(ordered, answer)  # the longest common beginning is that with a neighbor
        near = [_common(answer, other) for other in ordered[max(0, place - 1) : place + 1]]
        found.append(max(0, min(max(near, default=0), len(answer) - 1)))
    return found


def _common(one: Answer, two: Answer) -> int:
    """The number of tokens at the beginning that are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))


class Forks:
    """The forks of all rows of a run, by row id."""

    def __init__(self, shared_tokens: Mapping[str, int]) -> None:
        self._shared = dict(shared_tokens)

    @classmethod
    def of(
        cls, collator: Collator, one: Sequence[TuningSample], two: Sequence[TuningSample]
    ) -> Forks:
        """The forks between two sets of rows, whose answers the collator turns into tokens."""
        first, second = ([collator.answer_tokens(row) for row in rows] for rows in (one, two))
        lengths = [*shared(first, second), *shared(second, first)]
        found = dict(zip((row.id for row in (*one, *two)), lengths, strict=True))
        return cls(found)

    def mask(self, rows: Rows) -> Tensor:
        """True at each row's fork; bool, B x L."""
        ids = rows["inputs"]["input_ids"]
        begin = ids.shape[1] - rows["width"]
        places = [begin - 1 + self._shared[name] for name in rows["ids"]]
        columns = torch.arange(ids.shape[1], device=ids.device)
        return columns == torch.tensor(places, device=ids.device)[:, None]
