"""One operator at a block's output: what a hook does, but safe in a compiled graph.

`torch.compile` neither looks inside it nor removes it, as it says that it changes `hidden`. It is
among vLLM's splitting operators, so it runs as Python between two pieces of a graph.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

__all__ = ["GUARDS", "Reader", "at_block"]


class Reader(Protocol):
    """What reads and changes states: a guard."""

    def at_block(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Read what block `layer` returns, and change it in place."""
        ...


GUARDS: WeakValueDictionary[int, Reader] = WeakValueDictionary()
"""Those of this process, as an operator takes numbers and no objects."""


@torch.library.custom_op("safesight::at_block", mutates_args=("hidden",))
def at_block(hidden: Tensor, residual: Tensor | None, guard: int, layer: int) -> None:
    """Let a guard read, and change in place, what block `layer` returns.

    Args:
        hidden: Packed states, T x d.
        residual: What vLLM adds to them later, T x d.
        guard: Its number in `GUARDS`.
        layer: The block.
    """
    GUARDS[guard].at_block(layer, hidden, residual)


@at_block.register_fake
def _(hidden: Tensor, residual: Tensor | None, guard: int, layer: int) -> None:
    return None
