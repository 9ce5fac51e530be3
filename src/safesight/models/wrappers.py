"""What `peft` and `accelerate` may have put around a `transformers` model, or inside it.

Answers questions about such a model: which model is inside, where its inputs go, where its
offloaded weights are kept, which adapters are in effect. It loads and changes nothing,
and needs neither library: a model that uses one has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from safesight.errors import ModelError

__all__ = [
    "adapters",
    "input_device",
    "is_offloaded",
    "offloaded",
    "unwrapped",
]


def unwrapped(model: Any) -> Any:
    """The `transformers` model inside PEFT's wrapper, with its adapters; any other as it is.

    What is attached to it acts through the wrapper, too.

    Raises:
        ModelError: a kind of PEFT that is not inside the model but around it.
    """
    peft = sys.modules.get("peft")
    if peft is None or not isinstance(model, peft.PeftModel | peft.PeftMixedModel):
        return model
    for config in model.peft_config.values():
        if config.is_prompt_learning:
            raise ModelError(
                f"A PEFT model of type {config.peft_type.value} cannot be used: it adds tokens to "
                "the prompt that no defense would see. Use an adapter of the weights, such as LoRA."
            )
    return model.base_model.model


def adapters(model: nn.Module) -> list[tuple[Any, ...]]:
    """Which adapters are in effect where: empty without any.

    Name of the layer, the active ones, whether they are switched off, which are merged, and how
    much each counts.
    """
    return [
        (
            name,
            list(layer.active_adapters),
            layer.disable_adapters,
            list(getattr(layer, "merged_adapters", ())),
            sorted((getattr(layer, "scaling", None) or {}).items()),
        )
        for name, layer in model.named_modules()
        # A method of that name is transformers' own, which says nothing of the present state.
        if isinstance(getattr(layer, "disable_adapters", None), bool)
    ]


def input_device(model: Any, embed: nn.Module) -> torch.device:
    """Where inputs go: with accelerate's hooks, to where the embeddings are computed."""
    device: torch.device = model.device
    if not hasattr(model, "_hf_hook"):
        return device
    weight = next(embed.parameters())
    if not weight.is_meta:
        return weight.device
    places = (getattr(hook, "execution_device", None) for hook in _hooks(embed))
    return torch.device(next(place for place in places if place is not None))


def is_offloaded(model: nn.Module) -> bool:
    """Whether some of its weights are elsewhere until they are needed."""
    return any(parameter.is_meta for parameter in model.parameters())


def offloaded(model: nn.Module) -> Mapping[str, Callable[[], Tensor]]:
    """By name, what reads an offloaded weight from the memory or the disk where it is kept."""
    found: dict[str, Callable[[], Tensor]] = {}
    for path, module in model.named_modules():
        for weights in filter(
            None, (getattr(each, "weights_map", None) for each in _hooks(module))
        ):
            for name, _ in module.named_parameters():
                full = f"{path}.{name}" if path else name
                if name in weights:
                    found[full] = partial(weights.__getitem__, name)
    return found


def _hooks(module: nn.Module) -> Iterator[Any]:
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        yield from getattr(hook, "hooks", (hook,))
