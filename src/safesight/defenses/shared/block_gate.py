"""Linear gates that read one block of a plain prefill, of a prompt or of what is said of an answer.

The blocks to compare, and the gate on one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from torch import Tensor

from safesight.activations import LinearProbe, resid_post
from safesight.defenses.shared.linear_gate import Feature, GateConfig, LinearGate, read_feature
from safesight.errors import ModelError

if TYPE_CHECKING:
    from safesight.generation.prefill import Prefill

__all__ = ["BlockConfig", "BlockFitted", "block_gate", "candidate_blocks"]

_COMPARED = 8
"""Blocks that "auto" compares. Neighbours hold almost the same, and the states of all blocks of a
large model would not fit in its memory."""


class BlockConfig(GateConfig):
    """Settings of a gate that reads one block."""

    layer: Annotated[int, Field(ge=0)] | Literal["auto"] | None = "auto"
    """The block to read. "auto" compares up to eight, spread over the depth, and keeps the last one
    unless another is better; None is the last one. Source: ours."""


def candidate_blocks(num_layers: int, layer: int | Literal["auto"] | None) -> list[int]:
    """The blocks to compare, the preferred one first.

    Raises:
        ModelError: the model lacks the requested block.

    Example:
        >>> candidate_blocks(32, "auto")
        [31, 27, 23, 19, 15, 11, 7, 3]
        >>> candidate_blocks(32, 5), candidate_blocks(32, None)
        ([5], [31])
    """
    last = num_layers - 1
    if layer is None:
        return [last]
    if layer == "auto":
        number = min(_COMPARED, num_layers)
        return [round((i + 1) * num_layers / number) - 1 for i in reversed(range(number))]
    if layer > last:
        raise ModelError(
            f"The probe was to read block {layer}, but this model has {num_layers} decoder blocks, "
            "counted from 0. Choose one of them as layer, or auto."
        )
    return [layer]


@dataclass(frozen=True)
class BlockFitted:
    """What a fit found."""

    layer: int
    """The block it reads."""
    probe: LinearProbe


def block_gate(config: BlockConfig, layer: int, probe: LinearProbe) -> LinearGate:
    """The gate on the states after a block."""
    read = partial(_read, feature=config.feature, layer=layer)
    return LinearGate([resid_post(layer)], None, config.refusal, probe, read)


def _read(prefill: Prefill, feature: Feature, layer: int) -> Tensor:
    return read_feature(prefill, prefill.states[resid_post(layer)], feature)
