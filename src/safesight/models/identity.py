"""Which model is this? Hashes that change when the weights or the config do.

Every element of every parameter counts (through an exact integer sum), a sample of them also
with its position, wherever the weights are kept. Collisions can be constructed, so this tells
versions apart but does not protect against forgery. The processor is not part of the hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from safesight.errors import ModelError
from safesight.models.changes import weights_state
from safesight.models.quantized import is_quantized, stored_tensors
from safesight.models.wrappers import ADAPTER, adapters, offloaded

__all__ = ["WeightsHash", "hash_config", "hash_weights"]

_CHUNK = 1 << 24
_SAMPLE = 1 << 14
_VOLATILE = {
    "_name_or_path",
    "_commit_hash",
    "_attn_implementation",
    "architectures",
    "attn_implementation",
    "dtype",
    "torch_dtype",
    "transformers_version",
}
"""Config entries that depend on how a model was loaded, not on the model itself."""
_SWITCH = re.compile(
    "use_cache|return_dict|output_hidden_states|output_attentions|output_router_logits"
    "|gradient_checkpointing|.*(?:dropout|pdrop|layerdrop|drop_path_rate)"
)
"""Config entries that say what a model returns, or how it is trained: `generate` gives the same
answers whatever they are, and a Trainer changes them as it likes."""
_EVERYWHERE = {"output_hidden_states": False, "output_attentions": False, "return_dict": True}
"""The switches that `transformers` writes for every config, whatever its class."""


class WeightsHash:
    """The hash of a model's weights, taken again only when they have changed."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._known: tuple[object, str] | None = None
        self._keeping = 0

    @property
    def hash(self) -> str:
        """See `hash_weights`."""
        state = self._state()
        if self._known is None or not (self._keeping or self._known[0] == state):
            self._known = state, hash_weights(self._model)
        return self._known[1]

    @property
    def keeping(self) -> bool:
        """Whether other weights stand in for the model's own; see `kept`."""
        return self._keeping > 0

    @contextmanager
    def kept(self, other: Collection[str] = ()) -> Iterator[None]:
        """Inside, the hash stays what it is, and afterwards, if no other weight has changed.

        Args:
            other: The weights that have other values inside, and their own again afterwards.
        """
        own, before = self.hash, self._state(other)
        self._keeping += 1
        try:
            yield
        finally:
            self._keeping -= 1
            same = self._state(other) == before
            self._known = (self._state(), own) if same else None

    def _state(self, but: Collection[str] = ()) -> list[Any]:
        found = weights_state(self._model, but=ADAPTER)
        return [each for each in found if each[0] not in but]


def hash_config(config: Any) -> str:
    """Hex hash of a transformers config, without entries that change no answer."""
    text = json.dumps(_stable(config.to_dict(), config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_weights(model: nn.Module) -> str:
    """Hex hash of all parameters as float32: bf16 weights loaded as float32 get the same hash.

    Offloaded weights count as if they were in memory. Which adapters are active counts, too.

    Raises:
        ModelError: a weight has no value anywhere.
    """
    digest = hashlib.sha256()
    elsewhere = offloaded(model)
    with torch.no_grad():
        for name, value in sorted(_tensors(model), key=lambda pair: pair[0]):
            if value.is_meta and name not in elsewhere:
                raise ModelError(
                    f"The weight {name!r} of this model has no value, so the model cannot be told "
                    "from others. Load it with its weights."
                )
            digest.update(f"{name} {tuple(value.shape)}".encode())
            digest.update(_content(elsewhere[name]() if value.is_meta else value.detach()))
    if state := adapters(model):
        digest.update(json.dumps(state).encode())
    return digest.hexdigest()


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter once, under its first name; of quantized weights all that is stored."""
    if is_quantized(model):
        yield from stored_tensors(model)
        return
    # Offloading makes two parameters of a shared one.
    shared = getattr(model, "all_tied_weights_keys", None) or {}
    seen: set[str] = set()
    for name, parameter in model.named_parameters():
        original = shared.get(name, name)
        if not (parameter.is_meta and original in seen):
            yield name, parameter
        seen.add(original)


def _content(parameter: Tensor) -> bytes:
    flat = parameter.flatten()
    total = 0
    for start in range(0, flat.numel(), _CHUNK):
        total += int(_bits(flat[start : start + _CHUNK]).sum(dtype=torch.int64))
    stride = max(1, flat.numel() // _SAMPLE)
    sample = _bits(flat[::stride].contiguous()).cpu().numpy().tobytes()
    return (total % (1 << 64)).to_bytes(8, "little") + sample


def _bits(values: Tensor) -> Tensor:
    """Floats as the integers that their float32 bits encode; integers unchanged."""
    return values.float().view(torch.int32) if values.is_floating_point() else values


def _stable(value: Any, config: Any = None) -> Any:
    """The value without volatile entries, its switches as the config's class has them.

    A switch that the class does not have is left out: someone set it later.
    """
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _VOLATILE}
        switches = {key for key in kept if config is not None and _SWITCH.fullmatch(str(key))}
        rest = {
            str(key): _stable(item, getattr(config, str(key), None))
            for key, item in kept.items()
            if key not in switches
        }
        defaults = {**_EVERYWHERE, **_defaults(config)}
        return rest | {key: defaults[key] for key in switches if key in defaults}
    if isinstance(value, (list, tuple)):
        return [_stable(item) for item in value]
    return value


def _defaults(config: Any) -> dict[str, Any]:
    """The plain defaults of a config's class, by name."""
    fields = getattr(type(config), "__dataclass_fields__", {})
    return {
        name: field.default
        for name, field in fields.items()
        if isinstance(field.default, bool | int | float | str | None)
    }
