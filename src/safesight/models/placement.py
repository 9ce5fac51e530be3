"""The options that say how a model is loaded: dtype, device, device map and kind of attention.

transformers takes most wrong values for faults of the checkpoint, and some not at all. Here each
is checked by itself, before any weights are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from transformers import AutoModelForImageTextToText
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from safesight import ranks
from safesight.errors import ModelError, UnknownNameError

__all__ = ["check_attention", "check_map", "check_modules", "device_of", "dtype_of"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")
# "paged|..." serves continuous batching, which a protected model does not allow.
_ATTENTION = {"eager", *(name for name in ALL_ATTENTION_FUNCTIONS if "|" not in name)}
_PACKAGES = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": "flash_attn",
}


def device_of(device: str | None) -> str:
    """A device that this machine has; a GPU if none is named and there is one.

    Of several processes on a machine, each has a GPU of its own.

    Raises:
        ModelError: there is no such device, or not one for each process.
    """
    if device in (None, "cuda") and torch.cuda.is_available():
        return _usable(_own_gpu())
    return _usable(device or "cpu")


def _own_gpu() -> str:
    here, gpus = ranks.place(), torch.cuda.device_count()
    if here.count == 1:
        return "cuda"
    if here.local_count > gpus:
        raise ModelError(
            f"There are {here.local_count} processes on this machine and {gpus} GPUs. Start one "
            "process for each GPU, or use --device cpu."
        )
    torch.cuda.set_device(here.local)  # what libraries use that are not told
    return f"cuda:{here.local}"


def dtype_of(dtype: str | torch.dtype | None, device: str) -> str | torch.dtype:
    """float32 on a CPU, where it is exact and fast; the checkpoint's own dtype on a GPU.

    Raises:
        ModelError: models do not run in this type.
    """
    if dtype is None:
        return torch.float32 if device.startswith("cpu") else "auto"
    if dtype == "auto":
        return dtype
    named = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if named not in _DTYPES:
        raise ModelError(
            f"There is no weight type {dtype!r}. Use float32, bfloat16, float16 or auto."
        )
    return named


def check_attention(name: str | None) -> None:
    """Refuse attention that transformers does not know, or that is not installed.

    Raises:
        ModelError: there is no such attention here.
    """
    if name is None:
        return
    of_the_hub = "/" in name  # a kernel, such as kernels-community/flash-attn
    if not of_the_hub and name not in _ATTENTION:
        raise UnknownNameError("attention", name, _ATTENTION)
    package = "kernels" if of_the_hub else _PACKAGES.get(name)
    if package is not None and find_spec(package) is None:
        raise ModelError(
            f"The attention {name!r} needs the package {package}, which is not installed. Install "
            "it, or use sdpa or eager."
        )


def check_map(places: Any) -> None:
    """Refuse a device map that fits no model, or names devices that this machine does not have.

    Raises:
        ModelError: the map cannot be used.
    """
    if isinstance(places, Mapping):
        if not places or not all(isinstance(module, str) for module in places):
            raise ModelError(
                f"The device map {dict(places)!r} does not map names of modules to devices. Write "
                'it like {"model": 0, "lm_head": "cpu"}, or use auto.'
            )
        devices = [place for place in places.values() if place != "disk"]
    elif places is None or places in _SPREAD:
        devices = []
    elif isinstance(places, str | int | torch.device):
        devices = [places]
    else:
        raise ModelError(
            f"The device map {places!r} is neither a name nor a mapping of modules to devices. "
            f"Use one of {', '.join(_SPREAD)}, or a mapping."
        )
    for device in devices:
        _usable(device)


def check_modules(places: Any, config: Any, *, trust_remote_code: bool = False) -> None:
    """Refuse a device map that names no module of the model, or leaves weights without a place.

    Raises:
        ModelError: the map does not fit the model.
    """
    if not isinstance(places, Mapping) or ("" in places and len(places) == 1):
        return
    with torch.device("meta"):
        skeleton = AutoModelForImageTextToText.from_config(
            config, trust_remote_code=trust_remote_code
        )
    modules = {name for name, _ in skeleton.named_modules()}
    tensors = [name for name, _ in skeleton.named_parameters()]
    top = ", ".join(_top(modules))
    if unknown := [name for name in places if name not in modules and name not in tensors]:
        raise ModelError(
            f"The device map names {unknown[0]!r}, which is no module of this model. "
            f"Its modules begin with: {top}."
        )
    homeless = [name for name in tensors if not any(_within(name, place) for place in places)]
    if homeless:
        raise ModelError(
            f"The device map says of {len(homeless)} tensors, such as {homeless[0]}, not where "
            f"they go. Add their modules to it, or an entry for all others: {top}."
        )


def _within(name: str, module: str) -> bool:
    return not module or name == module or name.startswith(f"{module}.")


def _top(modules: Iterable[str]) -> list[str]:
    """Modules at the first two levels, which maps usually name."""
    return sorted(name for name in modules if name and name.count(".") < 2)[:8]


def _usable(device: Any) -> str:
    """The name of a device, on which a tensor was tried."""
    known = "Use cpu, cuda or cuda:0."
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ModelError(f"There is no device {device!r}. {known}") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("This machine has no GPU that torch can use. Use the device cpu.")
    if found.type == "meta":
        raise ModelError(f"The device 'meta' holds no weights. {known}")
    try:
        torch.empty(1, device=found).cpu()
    except (RuntimeError, AssertionError, ImportError, AttributeError):
        raise ModelError(f"This machine has no device {str(device)!r}. {known}") from None
    return str(found)
