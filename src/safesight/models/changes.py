"""Notice that the weights of a model have changed, in milliseconds and without reading them.

A detector was fitted on certain weights, a weights defense consists of them, and an artifact is
tied to them by their hash. With other weights, all three would go on in silence and be wrong.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from safesight.models.wrappers import adapters, is_offloaded

__all__ = ["weights_state"]


def weights_state(model: nn.Module, but: str | None = None) -> list[Any]:
    """Something that stays equal until a weight or an adapter of the model changes.

    It notices a weight that was changed in place, replaced, or converted to another dtype. It does
    not notice other values given to `.data`, which moving a model to another device does, too.
    Weights that are offloaded change places all the time, so there only the adapters count.

    Args:
        model: The model.
        but: The name of adapters that do not count.
    """
    state: list[Any] = adapters(model, but=but)
    if not is_offloaded(model):
        # torch counts every change in place, except for tensors made in inference mode.
        state += [
            (
                name,
                id(weight),
                weight.dtype,
                None if weight.is_inference() else weight._version,
            )
            for name, weight in model.named_parameters()
            if but is None or f".{but}." not in name
        ]
    return state
