"""Which model is this? Hashes that change when the weights or the config do.

Every element of every parameter counts (through an exact integer sum), a sample of them also
with its position. Collisions can be constructed, so this tells versions apart but does not
protect against forgery. The processor is not part of the hash.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["hash_config", "hash_weights"]

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


def hash_config(config: Any) -> str:
    """Hex hash of a transformers config, without entries that depend on how it was loaded."""
    text = json.dumps(_stable(config.to_dict()), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_weights(model: nn.Module) -> str:
    """Hex hash of all parameters as float32: bf16 weights loaded as float32 get the same hash.

    For a parameter that is not in memory (offloaded to disk) only name and shape count.
    """
    digest = hashlib.sha256()
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            digest.update(f"{name} {tuple(parameter.shape)}".encode())
            if not parameter.is_meta:
                digest.update(_content(parameter.detach()))
    return digest.hexdigest()


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


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _stable(item) for key, item in value.items() if key not in _VOLATILE}
    if isinstance(value, (list, tuple)):
        return [_stable(item) for item in value]
    return value
