"""Quantized weights: how to request them and how to read them.

Recognises torchao, quanto and bitsandbytes by their tensors' interface, without importing them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safesight.errors import ModelError
from safesight.extras import need

__all__ = ["QUANTIZATIONS", "is_quantized", "quantization_config", "stored_tensors"]

QUANTIZATIONS = ("int8", "int4")
"""The names that can be requested."""

_LONGEST_BUILD = 600.0
"""Seconds after which nobody builds any more; on one slow core it takes about a minute."""


def quantization_config(wanted: Any) -> Any:
    """A `transformers` quantization config, built from a name or passed through.

    Both names use quanto, which runs on any device.

    Raises:
        ModelError: the name is unknown.
        MissingExtraError: quanto is not installed.
        ModelError: a build of its kernels was interrupted.
    """
    if not isinstance(wanted, str):
        return wanted
    if wanted not in QUANTIZATIONS:
        raise ModelError(
            f"There is no quantization {wanted!r}. Use {' or '.join(QUANTIZATIONS)}, or pass a "
            "quantization config of transformers from Python."
        )
    need("optimum", "quantized", f"Loading weights in {wanted}")
    _refuse_stale_lock()
    from transformers import QuantoConfig

    return QuantoConfig(weights=wanted)


def _refuse_stale_lock() -> None:
    """Refuse what would wait for ever: a process that is killed while it builds leaves its lock."""
    spec = find_spec("optimum.quanto")
    if spec is None or spec.origin is None:
        return
    lock = Path(spec.origin).parent / "library" / "extensions" / "cpp" / "build" / "lock"
    if lock.exists() and time.time() - lock.stat().st_mtime > _LONGEST_BUILD:
        raise ModelError(
            f"Building the kernels of quanto was interrupted, and its lock is still there. If no "
            f"other process is building them, remove {lock}"
        )


def is_quantized(model: nn.Module) -> bool:
    """Whether some weights are stored in fewer bits than they are computed with."""
    if getattr(model, "hf_quantizer", None) is not None:
        return True
    return any(
        not parameter.is_floating_point() or not type(parameter).__module__.startswith("torch.")
        for parameter in model.parameters()
    )


def stored_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The stored tensors of a quantized model, scales included; its first forward keeps them equal.

    This avoids the model's own `state_dict`: for it, bitsandbytes unpacks 4-bit weights and
    reorders their scales, which changes the answers that follow.
    """
    for path, module in model.named_modules():
        if getattr(getattr(module, "weight", None), "quant_state", None) is not None:
            own = _four_bit(module)
        elif next(module.children(), None) is not None:
            own = dict(module.named_parameters(recurse=False))
        else:
            own = module.state_dict()
        for name, value in own.items():
            if isinstance(value, Tensor):
                yield from _inner(f"{path}.{name}" if path else name, value)


def _four_bit(module: Any) -> dict[str, Tensor]:
    """The tensors of a bitsandbytes 4-bit layer, independent of the CPU-specific order.

    On some CPUs the first forward repacks the codes and rounds the scales to bfloat16.
    """
    own = dict(module.named_parameters(recurse=False))
    codes = own.pop("weight").detach().view(torch.uint8).flatten()
    state = module.weight.quant_state
    scales = state.absmax
    if state.nested:
        library = sys.modules["bitsandbytes.functional"]
        scales = library.dequantize_blockwise(scales, state.state2) + state.offset
    return {
        **own,
        "weight.codes": torch.bincount(codes & 15, minlength=16)
        + torch.bincount(codes >> 4, minlength=16),
        "weight.scales": scales.flatten().to(torch.bfloat16).sort().values,
    }


def _inner(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The plain tensors inside a quantization library's tensor."""
    flatten = getattr(value, "__tensor_flatten__", None)
    if flatten is None:
        yield name, value
        return
    for part in flatten()[0]:
        yield from _inner(f"{name}.{part}", getattr(value, part))
