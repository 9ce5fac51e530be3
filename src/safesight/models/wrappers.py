"""Inspect what `peft`, `accelerate` and `torch.compile` add to a `transformers` model.

Finds the inner model, the device for inputs, the offloaded weights and the active adapters.
Loads and changes nothing, and imports none of them: a model that uses one has imported it.
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
    "ADAPTER",
    "adapters",
    "input_device",
    "is_offloaded",
    "offloaded",
    "unwrapped",
]


ADAPTER = "safesight"
"""The name inside PEFT's layers of the adapters that a defense installs."""


def unwrapped(model: Any) -> Any:
    """The `transformers` model inside PEFT's or torch.compile's wrapper; others are returned as is.

    What is attached to the inner model, adapters among them, also acts through the wrapper.

    Raises:
        ModelError: this kind of PEFT acts outside the inner model.
    """
    compiled = sys.modules.get("torch._dynamo.eval_frame")
    if compiled is not None and isinstance(model, compiled.OptimizedModule):
        return unwrapped(model._orig_mod)
    peft = sys.modules.get("peft")
    if peft is None or not isinstance(model, peft.PeftModel | peft.PeftMixedModel):
        return model
    for config in model.peft_config.values():
        if config.is_prompt_learning:
            raise ModelError(
                f"A PEFT model of type {config.peft_type.value} cannot be used: it adds tokens to "
                "the prompt that no defense would see. Use a weight adapter, such as LoRA."
            )
    return unwrapped(model.base_model.model)


def adapters(model: nn.Module, but: str | None = None) -> list[tuple[Any, ...]]:
    """The state of the adapters, layer by layer; empty if there are none.

    Layers whose only active adapter is `but` are left out. Each entry holds the layer's name, its
    active adapters, whether they are disabled, which are merged, and their scaling.
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
        # In transformers this name is a method, which does not tell the current state.
        if isinstance(getattr(layer, "disable_adapters", None), bool)
        and list(layer.active_adapters) != [but]
    ]


def input_device(model: Any, embed: nn.Module) -> torch.device:
    """The device for inputs: with accelerate's hooks, where the embeddings are computed.

    Raises:
        ModelError: the embeddings have no value anywhere.
    """
    device: torch.device = model.device
    if not hasattr(model, "_hf_hook") and device.type != "meta":
        return device
    weight = next(embed.parameters())
    if not weight.is_meta:
        return weight.device
    for hook in _hooks(embed):
        place = getattr(hook, "execution_device", None)
        if place is not None:
            return torch.device(place)
    raise ModelError(
        "The embeddings of this model have no value, so it cannot run. Load it with its weights."
    )


def is_offloaded(model: nn.Module) -> bool:
    """Whether some of its weights are offloaded until they are needed."""
    return any(parameter.is_meta for parameter in model.parameters())


def offloaded(model: nn.Module) -> Mapping[str, Callable[[], Tensor]]:
    """Name to a function that reads the offloaded weight from memory or disk."""
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
