"""Notice that the weights of a protected model have changed since a defense was attached.

A detector was fitted on certain weights, and a weights defense consists of them: with others, both
would go on in silence and no longer hold. The check takes milliseconds, so it runs at each call.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from safesight.models.wrappers import adapters, is_offloaded

__all__ = ["weights_state"]


def weights_state(model: nn.Module) -> list[Any]:
    """Something that stays equal until a weight or an adapter of the model changes.

    It does not notice a change through `.data`, which moving a model to another device is, too.
    Weights that are offloaded change places all the time, so there only the adapters count.
    """
    state: list[Any] = adapters(model)
    if not is_offloaded(model):
        # torch counts every change in place, except for tensors made in inference mode.
        state += [
            (name, None if weight.is_inference() else weight._version)
            for name, weight in model.named_parameters()
        ]
    return state
