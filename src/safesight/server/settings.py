"""What the operator of a server decides."""

from __future__ import annotations

from dataclasses import dataclass, field

from safesight.server.pictures import PictureRules

__all__ = ["Limits", "ServerSettings"]


@dataclass(frozen=True)
class Limits:
    """How much one request, and all of them together, may ask for."""

    max_body: int = 20_000_000
    """Bytes of a request's body."""
    max_pictures: int = 8
    """Pictures in one request."""
    max_parts: int = 1000
    """Messages, parts of messages and calls in one request, together."""
    max_text: int = 1_000_000
    """Characters of all texts in one request; a model's own limit is counted in tokens, which
    takes a second per million characters."""
    max_tokens: int = 1024
    """Tokens of one answer; who asks for more gets this many."""
    max_choices: int = 8
    """Answers to one request (`n`)."""
    max_waiting: int = 128
    """Answers that are being written or waited for; further requests get status 429."""
    seconds: float = 300.0
    """Time for one request, from its last byte to the end of its answer."""
    body_seconds: float = 30.0
    """Time for a client to send its request."""


@dataclass(frozen=True)
class ServerSettings:
    """The rules of a server."""

    name: str
    """The model's name in requests and answers."""
    limits: Limits = field(default_factory=Limits)
    pictures: PictureRules = field(default_factory=PictureRules)
    keys: tuple[str, ...] = ()
    """API keys; without any, everybody who reaches the port is served."""
    allowed: tuple[str, ...] = ()
    """Defenses that a request may choose instead of the operator's; "none" for no defense."""
    allow_threshold: bool = False
    """Whether a request may set the threshold of a detector."""
