"""What a model's states were where an artifact was fitted, so that another engine can compare.

The identity of a model is a hash of its weights, so it says nothing about an engine that keeps
weights in another layout or computes in another order. There the states themselves are compared,
on a few fixed prompts. A card has room for a sketch of them: with R a fixed d x K matrix of normal
numbers (Johnson and Lindenstrauss), K sketch values s = h R of a state h tell distances, since

    E[(s_k - s'_k)^2] = ||h - h'||^2
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from safesight.types import Messages

__all__ = [
    "KEY",
    "Reference",
    "ReferencePrompt",
    "conversations",
    "hash_tokens",
    "lines_of",
    "relative_error",
    "sketch",
]

KEY = "reference"
"""Its entry in an artifact's card."""
_K = 16
"""Sketch values of one state: distances are known to about 18%."""
_QUESTIONS: tuple[tuple[Literal["text", "picture"], str], ...] = (
    ("text", "What is a good name for a cat?"),
    ("text", "Why is the sky blue? Answer in one sentence, and name your source."),
    ("picture", "What is this?"),
    ("picture", "Which color has the thing in the picture? Say what else is there to see."),
)


class ReferencePrompt(BaseModel):
    """One prompt: its tokens, and what the model and the detector made of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["text", "picture"]
    length: int
    """Tokens."""
    tokens: str
    """Hash of their ids."""
    states: list[str]
    """The last token's state after every block: its norm and its sketch, 1 + K numbers."""
    score: float | None = None
    """The detector's, if the defense is one."""
    refused: bool | None = None


class Reference(BaseModel):
    """Every prompt in the order of `conversations`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    prompts: list[ReferencePrompt]

    @classmethod
    def of(cls, card: Mapping[str, Any]) -> Reference | None:
        """The reference in an artifact's card; None if it has none that can be read."""
        try:
            return cls.model_validate(card[KEY])
        except (KeyError, ValidationError):
            return None


def conversations() -> list[tuple[Literal["text", "picture"], Messages]]:
    """The prompts: questions without and with a drawn picture, which harm nobody."""
    from safesight.models.check import drawn

    found: list[tuple[Literal["text", "picture"], Messages]] = []
    for kind, question in _QUESTIONS:
        parts: list[dict[str, Any]] = [{"type": "text", "text": question}]
        if kind == "picture":
            parts.insert(0, {"type": "image", "image": drawn()})
        found.append((kind, [{"role": "user", "content": parts}]))
    return found


def hash_tokens(ids: Sequence[int]) -> str:
    """Hex hash of the ids of a prompt."""
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()


def sketch(states: Tensor) -> Tensor:
    """S = h R for every row: N x d to N x K, float32, on the CPU.

    Example:
        >>> one, other = torch.randn(2, 1, 512, generator=torch.Generator().manual_seed(1))
        >>> error = (sketch(one) - sketch(other)).square().mean().sqrt() / (one - other).norm()
        >>> bool(0.6 < error < 1.4)
        True
    """
    rows = states.detach().float().cpu()
    rng = torch.Generator().manual_seed(0)
    return rows @ torch.randn(rows.shape[-1], _K, generator=rng, dtype=torch.float32)


def relative_error(states: Tensor, prompt: ReferencePrompt) -> Tensor:
    """||h - h'|| / ||h'|| of every block, estimated from the sketches: N x d to N.

    Args:
        states: h, of the last token after every block, N x d.
        prompt: What was stored of h'.
    """
    stored = [[float(number) for number in line.split()] for line in prompt.states]
    if [len(numbers) for numbers in stored] != [1 + _K] * len(states):
        return torch.full((len(states),), torch.inf)
    numbers = torch.tensor(stored, dtype=torch.float32)
    distance = (sketch(states) - numbers[:, 1:]).square().mean(dim=1).sqrt()
    error: Tensor = distance / numbers[:, 0].clamp_min(torch.finfo(torch.float32).tiny)
    return error


def lines_of(states: Tensor) -> list[str]:
    """`ReferencePrompt.states` of N x d states; five digits, as cards are read by people, too."""
    numbers = torch.cat([states.float().norm(dim=1, keepdim=True).cpu(), sketch(states)], dim=1)
    return [" ".join(f"{number:.5g}" for number in row) for row in numbers.tolist()]
