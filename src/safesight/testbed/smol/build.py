"""Builds the folder of `testbed-smol`: what others publish and what is shipped here, in one model.

The language model comes from an installed package. Eye, projector and the adapters of three stages
are in `weights/`, in bfloat16. The adapters are merged, so that the folder holds a plain model.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from safesight.errors import ModelError, reason_of
from safesight.models.built import BuiltModel
from safesight.models.saving import save_checkpoint
from safesight.testbed.smol import language
from safesight.testbed.smol.architecture import assemble

__all__ = [
    "EYE_FILE",
    "MODEL",
    "RECALL_FILE",
    "SAFETY_FILE",
    "SHIPPED",
    "SPEAK_FILE",
    "UNGUARDED",
    "make",
]

SHIPPED = Path(__file__).parent / "weights"
EYE_FILE, SAFETY_FILE = "eye.safetensors", "safety.safetensors"
SPEAK_FILE, RECALL_FILE = "speak.safetensors", "recall.safetensors"
_ADAPTERS = (SAFETY_FILE, SPEAK_FILE, RECALL_FILE)
"""In the order of their training."""
_LAYOUT = "4"
"""Raised when the same parts are put together in another way."""


def make(folder: Path, *, safety: bool = True, shipped: Path | None = None) -> None:
    """Write the model and its processor.

    Args:
        folder: A new folder.
        safety: With the adapter of the safety stage.
        shipped: The folder of eye and adapters.

    Raises:
        MissingExtraError: the package of the language model is not installed.
        ModelError: the trained weights are missing, damaged or do not fit.
    """
    parts = SHIPPED if shipped is None else shipped
    with redirect_stderr(StringIO()):  # progress bars, some of which no setting turns off
        model, processor = assemble(language.read())
        _take(model, _read(parts / EYE_FILE))
        for name in _ADAPTERS if safety else _ADAPTERS[1:]:
            merge(model, _read(parts / name), _alpha(parts))
        save_checkpoint(model.to(torch.bfloat16), folder, processor)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise _unusable(path, reason_of(error)) from error


def _alpha(parts: Path) -> float:
    path = parts / "training.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(path, reason_of(error)) from error


def _take(model: Any, tensors: dict[str, Tensor]) -> None:
    """Load a part of the model's parameters."""
    try:
        unknown = model.load_state_dict(tensors, strict=False).unexpected_keys
    except RuntimeError as error:
        raise _unusable(SHIPPED / EYE_FILE, reason_of(error)) from error
    if unknown:
        raise _unusable(SHIPPED / EYE_FILE, f"it holds {unknown[0]!r}")


@torch.no_grad()
def merge(model: Any, adapter: dict[str, Tensor], alpha: float) -> None:
    """Add a LoRA adapter to the weights it is for: W + alpha / r B A.

    Products and sums are in float64, so that their order, which differs between machines, is lost
    when the result is rounded: the same weights everywhere, as the artifacts for them need.

    Args:
        model: The model that it was trained on.
        adapter: `NAME.lora_A.weight` and `NAME.lora_B.weight` for every layer NAME.
        alpha: The adapter's scale.

    Raises:
        ModelError: it is for another model.
    """
    try:
        for key, down in adapter.items():
            name, mark, _ = key.partition(".lora_A.weight")
            if mark:
                up = adapter[f"{name}.lora_B.weight"]
                weight = model.get_submodule(name).weight
                weight.copy_(weight.double() + alpha / len(down) * (up.double() @ down.double()))
    except (AttributeError, KeyError, RuntimeError) as error:
        raise _unusable(SHIPPED, reason_of(error)) from error


def _unusable(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} cannot be used ({why}). Install safesight again.")


def _stamp() -> str:
    """Digest of the shipped weights and the package: other ones are built into another folder."""
    parts = (SHIPPED / name for name in (EYE_FILE, *_ADAPTERS, "training.json"))
    files = [(path, path.stat().st_mtime_ns) for path in parts if path.is_file()]
    return _digest(tuple(files))


@cache
def _digest(files: tuple[tuple[Path, int], ...]) -> str:
    digest = hashlib.sha256(f"{_LAYOUT} {language.SHA256}".encode())
    for path, _ in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _make_unguarded(folder: Path) -> None:
    make(folder, safety=False)


MODEL = BuiltModel("testbed-smol", make, _stamp)
UNGUARDED = BuiltModel("testbed-smol-unguarded", _make_unguarded, _stamp)
"""The same without the safety stage: what taught it to speak was learned after that stage."""
