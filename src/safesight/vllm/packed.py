"""A prefill of prompts that lie one after another instead of padded in a batch.

Detectors see the same interface: their mathematics is not written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from safesight.activations import Site
from safesight.generation.prefill import Prefill

__all__ = ["PackedPrefill"]

Replay = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class PackedPrefill(Prefill):
    """The hidden states of R prompts of T tokens in all, or of their last tokens alone."""

    states: Mapping[Site, Tensor]
    """T x d at every requested site."""
    ends: Tensor = field(kw_only=True)
    """The row of every last token: R."""
    replayed: Replay | None = field(default=None, kw_only=True)

    def at_last(self, hidden: Tensor) -> Tensor:
        """The state of the last token of every prompt: T x d to R x d."""
        return hidden[self.ends.to(hidden.device)]

    def replay(self, hidden: Tensor, start: int) -> Tensor:
        """The last block's output, T x d, if block `start - 1` had returned `hidden`."""
        assert self.replayed is not None, "a detector without replay_from asked for a replay"
        return self.replayed(hidden, start)
