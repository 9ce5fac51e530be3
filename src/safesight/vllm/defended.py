"""vLLM's model classes with the defenses inside, made when they are asked for.

The names are those that `plugin` registers: an architecture and the version of vLLM.
"""

from __future__ import annotations

from typing import Any

from safesight.vllm.architectures import ARCHITECTURES
from safesight.vllm.plugin import base_of
from safesight.vllm.settings import settings_of
from safesight.vllm.versions import suffix

__all__ = ["Defended"]


class Defended:
    """Mixed in before a model class of vLLM; without settings the class is as its base."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        settings = settings_of(vllm_config)
        if settings is None or not settings.defended:
            return
        from safesight.vllm.guard import Guard

        # object.__setattr__: neither is a part of the model.
        guard = Guard(self, vllm_config, settings)
        object.__setattr__(self, "safesight", guard)
        if vllm_config.use_v2_model_runner:
            from safesight.vllm.runner_v2 import adopt
        else:
            from safesight.vllm.runner_v1 import adopt
        adopt(self, vllm_config, guard)


def __getattr__(name: str) -> type[Any]:
    if not name.startswith(ARCHITECTURES):
        raise AttributeError(name)
    import vllm

    base = base_of(name.removesuffix(suffix(vllm.__version__)))
    about = {"__module__": __name__, "__doc__": base.__doc__}
    made = type(base.__name__, (Defended, base), about)
    globals()[name] = made
    return made
