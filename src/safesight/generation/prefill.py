"""What a detector sees: the first forward pass over a prompt, and a way to rerun its last blocks.

`watch` records any forward pass, whether generate's own or one made to fit a probe, so both
see the same states. It decides nothing; `detectors` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from safesight.activations import BlockCall, Site, capture, last_of, record_calls, replay

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["Decision", "Detector", "Prefill", "watch", "watched_by"]


@dataclass(frozen=True)
class Prefill:
    """The hidden states of one prefill, B rows of L tokens."""

    vlm: VLM
    states: Mapping[Site, Tensor]
    """B x L x d at every requested site."""
    calls: Mapping[int, BlockCall]
    """The recorded block calls, for `replay`."""
    mask: Tensor | None = None
    """B x L, nonzero at the prompt's tokens; None if there is no padding."""

    def at_last(self, hidden: Tensor) -> Tensor:
        """The state of the last prompt token in every row: B x L x d to B x d."""
        if self.mask is None:
            return hidden[:, -1]
        mask = self.mask.to(hidden.device)
        if mask.shape[0] != hidden.shape[0]:  # several answers per prompt
            mask = mask.repeat_interleave(hidden.shape[0] // mask.shape[0], dim=0)
        last = last_of(mask, hidden.shape[1])
        return hidden[torch.arange(len(last), device=last.device), last]

    def replay(self, hidden: Tensor, start: int) -> Tensor:
        """The last block's output, B x L x d, if block `start - 1` had returned `hidden`."""
        return replay(self.vlm.layers, self.calls, hidden, start)


@dataclass(frozen=True)
class Decision:
    """One detector's decision on every row of a batch."""

    scores: Tensor
    """B, float32; larger is more harmful. NaN where the detector failed."""
    refuse: Tensor
    """B, bool."""
    threshold: float = 0.0
    """Rows that score at or above it are refused."""
    error: str | None = None
    """Why everything was refused, if the detector could not run."""

    def error_at(self, row: int) -> str | None:
        """Why a row has no score, and was refused for that; None if it has one.

        Example:
            >>> scores = torch.tensor([0.5, torch.inf])
            >>> found = Decision(scores, torch.tensor([False, True]))
            >>> found.error_at(0), found.error_at(1)
            (None, 'its score is not a finite number')
        """
        if math.isfinite(self.scores[row]):
            return None
        return self.error or "its score is not a finite number"


class Detector(Protocol):
    """Looks at a prefill and says which rows to refuse, and with what words."""

    @property
    def sites(self) -> Sequence[Site]:
        """The sites whose states it needs."""
        ...

    @property
    def replay_from(self) -> int | None:
        """The first block it may rerun, or None."""
        ...

    @property
    def refusal(self) -> str:
        """The answer to a refused prompt."""
        ...

    def judge(self, prefill: Prefill) -> Decision:
        """The decision on every row; if it raises, all rows are refused."""
        ...


@contextmanager
def watch(
    vlm: VLM,
    sites: Iterable[Site],
    replay_from: int | None,
    mask: Tensor | None = None,
    *,
    gradients: bool = False,
) -> Iterator[Prefill]:
    """Record the first forward pass inside the context; the result fills as it runs.

    Args:
        vlm: The model that will run.
        sites: Where to read states.
        replay_from: The first block whose call is recorded, or None for no replay.
        mask: The prompt's attention mask, B x L.
        gradients: Keep what is recorded in the graph, so that a score of it can be differentiated.
    """
    with ExitStack() as stack:
        states = stack.enter_context(capture(vlm.layers, sites, gradients=gradients))
        calls: Mapping[int, BlockCall] = {}
        if replay_from is not None:
            calls = stack.enter_context(record_calls(vlm.layers, replay_from, gradients=gradients))
        yield Prefill(vlm, states, calls, mask)


def watched_by(detectors: Iterable[Detector]) -> tuple[list[Site], int | None]:
    """The sites that detectors read, and the first block that one of them may rerun."""
    every = list(detectors)
    sites = sorted({site for detector in every for site in detector.sites})
    starts = [each.replay_from for each in every if each.replay_from is not None]
    return sites, min(starts, default=None)
