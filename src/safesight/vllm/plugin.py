"""What vLLM finds under the entry point group `vllm.general_plugins`.

vLLM calls `register` in each of its processes: front end, engine core, workers, and the process
that inspects a class. It puts a subclass in the place of each model class that can be defended,
and a check of the engine's configuration before every model. With no entry for safesight in an
engine's `additional_config`, the subclass behaves as its base.

This file loads neither torch nor vLLM's models, and starts no device.
"""

from __future__ import annotations

from typing import Any

from safesight.vllm.architectures import ARCHITECTURES

__all__ = ["base_of", "register"]

_BASES: dict[str, tuple[str, str]] = {}
"""Architecture to module and class of vLLM's own model."""


def register() -> None:
    """Put the defended classes and the checks in place; a second call changes nothing."""
    import vllm
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP
    from vllm.model_executor.models.registry import ModelRegistry

    from safesight.vllm.causes import keep_causes
    from safesight.vllm.engine_check import checked
    from safesight.vllm.versions import suffix

    keep_causes()
    for architecture in ModelRegistry.get_supported_archs():
        previous = MODELS_CONFIG_MAP.get(architecture)
        if not getattr(previous, "by_safesight", False):
            MODELS_CONFIG_MAP[architecture] = checked(previous)
    for architecture in ARCHITECTURES:
        entry = ModelRegistry.models.get(architecture)
        module = getattr(entry, "module_name", "")
        if module and not module.startswith("safesight."):
            _BASES[architecture] = (module, entry.class_name)
            name = architecture + suffix(vllm.__version__)
            ModelRegistry.register_model(architecture, f"safesight.vllm.defended:{name}")


def base_of(architecture: str) -> type[Any]:
    """The class that vLLM itself has for an architecture."""
    from importlib import import_module

    if not _BASES:
        register()
    module, name = _BASES[architecture]
    found: type[Any] = getattr(import_module(module), name)
    return found
