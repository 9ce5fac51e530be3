"""What is asked of a host, and what it answers: plain values, without tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from safesight.hosting.logprobs import TokenLogProb
from safesight.hosting.settings import Settings
from safesight.types import Message, Messages

if TYPE_CHECKING:
    from safesight.generation.prefill import Decision
    from safesight.hosting.arms import Arm
    from safesight.hosting.streams import Caller

__all__ = ["Generation", "Request", "decisions_of", "size_of"]


@dataclass(frozen=True)
class Generation:
    """The result for one row."""

    text: str
    stop_reason: Literal["stop", "max_tokens"]
    input_tokens: int
    output_tokens: int
    refused: bool | None
    """Whether a detector refused the row; None if there was no detector."""
    decisions: dict[str, dict[str, Any]]
    """Per detector: score, threshold, refuse, error."""
    logprobs: tuple[TokenLogProb, ...] | None = None
    """Probabilities of the answer's tokens, if they were asked for; None for a refusal, which the
    model did not write."""


@dataclass(frozen=True)
class Request:
    """One answer that somebody waits for."""

    arm: Arm
    settings: Settings
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] | None = None
    """JSON schemas of tools for the chat template to offer."""
    caller: Caller | None = None
    """Who hears the answer while it is written; None for who wants only the result."""
    future: Future[Generation] = field(default_factory=Future, compare=False)


def decisions_of(decisions: Mapping[str, Decision], row: int) -> dict[str, dict[str, Any]]:
    """The decisions of all detectors on one row, as JSON values (a failed score is NaN)."""
    found = {}
    for name, decision in decisions.items():
        error = decision.error_at(row)
        found[name] = {
            "score": float(decision.scores[row]),
            "threshold": decision.threshold,
            "refuse": bool(decision.refuse[row]),
            **({"error": error} if error else {}),
        }
    return found


def size_of(messages: Messages) -> int:
    """The approximate length of the prompt: characters, plus a fixed weight per picture."""
    parts = [part for message in messages for part in message["content"]]
    return sum(1000 if part["type"] == "image" else len(part["text"]) for part in parts)
