"""Reads the numbers of an artifact, each checked for its presence, type and shape.

A defense turns what it finds into a dataclass of its own; see `Defense.read`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from safesight.errors import ArtifactError

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.models import VLM

__all__ = ["Stored", "float32", "is_number"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What a fit may store. An integer, a truth value or an 8-bit float is a sign of damage."""
_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Stored:
    """The contents of an artifact, for the model it was fitted on.

    Example:
        >>> import torch
        >>> from safesight import VLM
        >>> from safesight.fitting.artifact import Artifact
        >>> artifact = Artifact("sasa", {}, {"threshold": 1}, {"weight": torch.ones(3)})
        >>> stored = Stored(artifact, VLM.load("testbed"))
        >>> stored.number("threshold"), stored.tensor("weight", 3).shape
        (1.0, torch.Size([3]))
    """

    artifact: Artifact
    vlm: VLM

    def tensor(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of finite numbers, as float32.

        Args:
            name: Of the tensor.
            shape: Its sizes; None stands for any.

        Raises:
            ArtifactError: it is missing, empty, not finite, of another shape, or several zeros.
        """
        found = self.artifact.tensors.get(name)
        values = None if found is None or not _has_shape(found, shape) else float32(found)
        # Every method multiplies these numbers, so their squares must be finite, too.
        energy = None if values is None else float(values.square().sum())
        if values is None or values.numel() == 0 or energy == math.inf:
            sizes = " x ".join("any" if size is None else str(size) for size in shape)
            raise self.error(f"does not hold {name!r} as {sizes} finite numbers")
        if values.numel() > 1 and energy == 0:
            raise self.error(f"holds {name!r} as zeros, which would do nothing")
        return values

    def optional_tensor(self, name: str, *shape: int | None) -> Tensor | None:
        """As `tensor`, or None if there is none of that name."""
        return self.tensor(name, *shape) if name in self.artifact.tensors else None

    def number(self, name: str) -> float:
        """A finite number.

        Raises:
            ArtifactError: it is missing or something else.
        """
        found = self.artifact.fitted.get(name)
        if not is_number(found):
            raise self.error(f"does not hold {name!r} as a finite number")
        return float(found)

    def optional_number(self, name: str) -> float | None:
        """As `number`, or None if the fit left it out."""
        return None if self.artifact.fitted.get(name) is None else self.number(name)

    def layer(self, name: str = "layer") -> int:
        """A decoder block of the model, counted from 0.

        Raises:
            ArtifactError: it is missing or not a block of the model.
        """
        found, blocks = self.artifact.fitted.get(name), self.vlm.num_layers
        if not _is_index(found, blocks):
            raise self.error(f"does not hold {name!r} as one of {blocks} decoder blocks")
        return found

    def layers(self, name: str = "layers") -> list[int]:
        """One or more decoder blocks of the model, counted from 0.

        Raises:
            ArtifactError: they are missing or not blocks of the model.
        """
        return self._indices(name, self.vlm.num_layers, "decoder blocks")

    def tokens(self, name: str = "tokens") -> list[int]:
        """One or more tokens of the model's vocabulary.

        Raises:
            ArtifactError: they are missing or not in the vocabulary.
        """
        return self._indices(name, self.vlm.vocab_size, "tokens")

    def _indices(self, name: str, below: int, what: str) -> list[int]:
        found = self.artifact.fitted.get(name)
        # Before an artifact has been saved as JSON, a tuple is still one.
        sound = isinstance(found, list | tuple) and all(_is_index(each, below) for each in found)
        if not sound or not found or len(set(found)) < len(found):
            raise self.error(f"does not hold {name!r} as some of {below} {what}, each once")
        return list(found)

    def error(self, what: str) -> ArtifactError:
        """The error to raise when the artifact cannot be used.

        Args:
            what: A verb and its object, such as "does not hold 'weight'".
        """
        name = self.artifact.defense
        return ArtifactError(f"The {name} artifact {what}. Fit {name} again.")


def float32(tensor: Tensor) -> Tensor | None:
    """The tensor as float32, or None if it is not one of finite floating-point numbers.

    Example:
        >>> float32(torch.tensor([1e300], dtype=torch.float64)) is None
        True
    """
    if tensor.dtype not in _FLOATS:
        return None
    values = tensor.float()
    return values if bool(values.isfinite().all()) else None


def is_number(found: object) -> TypeGuard[int | float]:
    """Whether it is a number that float32 can hold.

    Example:
        >>> is_number(0.5), is_number(True), is_number(10**400), is_number(float("nan"))
        (True, False, False, False)
    """
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    return abs(found) <= _LARGEST


def _has_shape(tensor: Tensor, shape: tuple[int | None, ...]) -> bool:
    return tensor.dim() == len(shape) and all(
        size is None or size == found for size, found in zip(shape, tensor.shape, strict=True)
    )


def _is_index(found: object, below: int) -> TypeGuard[int]:
    return type(found) is int and 0 <= found < below
