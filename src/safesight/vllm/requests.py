"""The requests of one worker, and which rows of a step belong to which.

vLLM packs the tokens of all requests of a step one after another, T x d. A prompt may be divided
over several steps, and a request that had to leave may come back: with nothing computed, or with as
much as a cache has kept, which may be its whole prompt.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Left", "Request", "Rows", "Step", "runs"]


def runs(prompt: np.ndarray, image_token: int) -> list[tuple[int, int]]:
    """First place of every run of visual tokens in a prompt, and the place after its last.

    Example:
        >>> runs(np.array([5, 9, 9, 5, 9]), image_token=9)
        [(1, 3), (4, 5)]
    """
    visual = np.concatenate([[False], prompt == image_token, [False]])
    edges = np.flatnonzero(visual[1:] != visual[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


@dataclass
class Request:
    """One request in a slot of the engine."""

    slot: int
    id: str
    prompt: np.ndarray
    """The ids of its tokens."""
    defended: bool
    end: int | None
    """The token that ends its turn."""
    pictures: int = 0
    words: int = 0
    """Tokens of its prompt that do not stand for a picture."""
    seen: int = 0
    """How many tokens of the prompt were seen without a gap."""
    states: dict[int, list[Tensor]] = field(default_factory=dict)
    """By block: those of the prompt's tokens so far, for a replay."""
    added: dict[int, list[Tensor]] = field(default_factory=dict)
    """By block: what the model adds between it and the next, for a replay."""
    positions: list[Tensor] = field(default_factory=list)
    judged: bool = False
    """Whether there is a verdict on its prompt."""
    refusing: str | None = None
    """The detector that refused it."""

    def resume(self, before: Request) -> None:
        """Take over what is known of the same prompt from before it left the batch."""
        if not np.array_equal(self.prompt, before.prompt):
            return
        self.seen, self.states = before.seen, before.states
        self.added, self.positions = before.added, before.positions
        self.judged, self.refusing = before.judged, before.refusing

    def forget(self) -> None:
        """Free the states, after a verdict or before a new start."""
        self.states.clear()
        self.added.clear()
        self.positions.clear()


class Left:
    """Requests that left the batch and may come back, since an engine does not say whether.

    One whose prompt was judged comes back with its verdict: its prompt may be in a cache then, and
    would never be seen again. Most never come back, so the oldest are forgotten, and refused if
    they do.

    Args:
        most: How many to remember.
        tokens: Of how many prompt tokens to keep states; those of the last request are kept.
    """

    def __init__(self, most: int, tokens: int) -> None:
        self._most, self._tokens = most, tokens
        self._found: dict[Hashable, tuple[Any, Request]] = {}

    def put(self, key: Hashable, request: Request, holder: Any = None) -> None:
        """Remember a request, if anything is known of it.

        Args:
            key: What names it when it comes back.
            request: The request.
            holder: An object to keep alive, if the key is its `id`.
        """
        if request.judged or 0 < request.seen < len(request.prompt):
            self._found[key] = (holder, request)
            while len(self._found) > self._most:
                self._found.pop(next(iter(self._found)))
            self._free()

    def _free(self) -> None:
        """Forget the oldest prompts of which too many states are kept."""
        begun = [(key, request) for key, (_, request) in self._found.items() if request.states]
        kept = sum(request.seen for _, request in begun)
        for key, request in begun[:-1]:
            if kept <= self._tokens:
                return
            kept -= request.seen
            del self._found[key]

    def take(self, key: Hashable) -> Request | None:
        """The request that left under this name, which is forgotten."""
        return self._found.pop(key, (None, None))[1]


@dataclass(frozen=True)
class Rows:
    """What one request has in a step."""

    request: Request
    start: int
    """Its first row."""
    done: int
    """How many of its tokens earlier steps computed."""
    count: int
    """How many rows belong to its prompt."""

    @property
    def ends(self) -> bool:
        """Whether the prompt ends in this step."""
        return self.done + self.count == len(self.request.prompt)


@dataclass(frozen=True)
class Step:
    """The rows of prompts that have a defense, in the order of the batch."""

    rows: Sequence[Rows]
    positions: Tensor | None = None
    """Those of all rows, T or 3 x T."""

    @classmethod
    def of(cls, requests: dict[int, Request], batch: Iterable[tuple[int, int, int, int]]) -> Step:
        """The rows of a batch.

        Args:
            requests: By slot.
            batch: For every request its slot, first row, number of rows, and how many of its
                tokens were computed before.
        """
        found = []
        for slot, start, count, done in batch:
            request = requests.get(slot)
            if request is None or not request.defended or done >= len(request.prompt):
                continue
            if done == 0:
                request.seen = 0
                request.forget()
            part = Rows(request, start, done, min(count, len(request.prompt) - done))
            # A gap, such as a cached prefix, stays one: the number can no longer be reached.
            request.seen = done + part.count if request.seen == done else -1
            found.append(part)
        return cls(found)

    def ending(self) -> list[Rows]:
        """Those whose prompt ends in this step."""
        return [each for each in self.rows if each.ends]

    def last_rows(self, device: torch.device) -> Tensor:
        """The row of every last prompt token: R."""
        rows = [each.start + each.count - 1 for each in self.ending()]
        return torch.tensor(rows, dtype=torch.long, device=device)

    def visual_rows(self, image_token: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The rows of visual tokens, M, and the slot of each, M."""
        rows, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for each in self.rows:
            part = each.request.prompt[each.done : each.done + each.count]
            own = np.flatnonzero(part == image_token) + each.start
            rows.append(own)
            owners.append(np.full(len(own), each.request.slot))
        both = np.concatenate(rows), np.concatenate(owners)
        return torch.from_numpy(both[0]).to(device), torch.from_numpy(both[1]).to(device)
