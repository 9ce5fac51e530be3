"""What a detector sees: the first forward over a prompt, and the means to rerun its end.

`watch` collects while any forward runs, be it generate's own or one made to fit a
probe, so that both see the same. It decides nothing; see `detectors` for who does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from safesight.activations import BlockCall, Site, capture, record_calls, replay

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["Decision", "Detector", "Prefill", "watch"]


@dataclass(frozen=True)
class Prefill:
    """The hidden states of one prefill, B rows of L tokens."""

    vlm: VLM
    states: Mapping[Site, Tensor]
    """B x L x d at every site that was asked for."""
    calls: Mapping[int, BlockCall]
    """How the blocks were called, for `replay`."""
    mask: Tensor | None = None
    """B x L, nonzero at the prompt's tokens; None where there is no padding."""

    def at_last(self, hidden: Tensor) -> Tensor:
        """The state of every row's last prompt token: B x L x d to B x d."""
        if self.mask is None:
            return hidden[:, -1]
        mask = self.mask.to(hidden.device)
        if mask.shape[0] != hidden.shape[0]:  # several answers to every prompt
            mask = mask.repeat_interleave(hidden.shape[0] // mask.shape[0], dim=0)
        positions = torch.arange(mask.shape[1], device=mask.device)
        last = (mask.bool() * positions).amax(dim=1)
        return hidden[torch.arange(len(last), device=last.device), last]

    def replay(self, hidden: Tensor, start: int) -> Tensor:
        """The last block's output, B x L x d, had block `start - 1` returned `hidden`."""
        return replay(self.vlm.layers, self.calls, hidden, start)


@dataclass(frozen=True)
class Decision:
    """What one detector said of every row of a batch."""

    scores: Tensor
    """B, float32; larger is more harmful. Not a number where the detector failed."""
    refuse: Tensor
    """B, bool."""
    threshold: float = 0.0
    """On the scores: a row at or above it is refused."""
    error: str | None = None
    """Why everything was refused, if the detector could not run."""


class Detector(Protocol):
    """Looks at a prefill and says which rows are to be refused, and with what words."""

    @property
    def sites(self) -> Sequence[Site]:
        """The states it needs."""
        ...

    @property
    def replay_from(self) -> int | None:
        """The first block it may want to run again, or None."""
        ...

    @property
    def refusal(self) -> str:
        """The answer to a refused prompt."""
        ...

    def judge(self, prefill: Prefill) -> Decision:
        """The decision on every row; raising means that all rows are refused."""
        ...


@contextmanager
def watch(
    vlm: VLM, sites: Iterable[Site], replay_from: int | None, mask: Tensor | None = None
) -> Iterator[Prefill]:
    """Collect the first forward inside the context; the result fills while it runs.

    Args:
        vlm: The model that will run.
        sites: Where to read states.
        replay_from: The first block whose call is recorded, or None for no replay.
        mask: The attention mask of the prompt, B x L.
    """
    with ExitStack() as stack:
        states = stack.enter_context(capture(vlm.layers, sites))
        calls: Mapping[int, BlockCall] = {}
        if replay_from is not None:
            calls = stack.enter_context(record_calls(vlm.layers, replay_from))
        yield Prefill(vlm, states, calls, mask)
