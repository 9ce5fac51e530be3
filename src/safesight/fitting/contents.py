"""The files of an artifact's folder: read within limits, and hashed.

A folder may come from anyone, so only regular files of a limited size are opened, JSON is strict
and not deeply nested, and tensors are never unpickled.
"""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

__all__ = ["check_file", "digest_of", "read_json", "read_tensors", "tensor_hash", "to_json"]

_MAX_JSON_BYTES = 1 << 20
_MAX_DEPTH = 32


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a regular file, too large, not JSON, or too deeply nested.
    """
    check_file(path, _MAX_JSON_BYTES)
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise _too_deep(path) from error
    if _deeper(found, _MAX_DEPTH):
        raise _too_deep(path)
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, on the CPU.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a regular file.
        SafetensorError: it is damaged.
    """
    check_file(path)
    return load_file(path)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text with sorted keys.

    Raises:
        ValueError: it holds a number that JSON has no way to write.
    """
    return json.dumps(value, sort_keys=True, allow_nan=False, indent=indent)


def digest_of(*values: Any) -> str:
    """Hex hash of JSON values, the same before they are written and after they are read back."""
    # Written twice: keys that are numbers become text, which sorts otherwise.
    return hashlib.sha256(to_json(json.loads(to_json(values))).encode()).hexdigest()


def tensor_hash(value: Tensor) -> str:
    """Hex hash of a tensor's type, shape and bytes."""
    import torch

    value = value.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)} ".encode())
    digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_file(path: Path, limit: int | None = None) -> None:
    """Refuse what is not a file: a pipe would block, a device never ends; or one above a limit."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path.name} is not a regular file")
    if limit is not None and found.st_size > limit:
        raise ValueError(f"{path.name} is larger than {limit >> 20} MB")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _too_deep(path: Path) -> ValueError:
    return ValueError(f"{path.name} is nested more than {_MAX_DEPTH} levels deep")


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested more than `levels` deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(
        _deeper(each, levels - 1) for each in inner if isinstance(each, dict | list)
    )
