"""Makes the engine say the refusal for a refused request, whatever its sampling settings say.

A request with a detector is refused until a verdict says otherwise. So a prompt that passed the
detectors by, for whatever reason, ends in a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["Forcing"]

_CERTAIN = 1e4
"""Logits this far apart leave one token, and no log-probability that tells of the others."""


class Forcing:
    """The refusals of the slots of one worker.

    Args:
        refusals: The tokens of the refusal of every detector.
        end: The token that ends a turn, for requests that do not say.
        slots: How many requests there may be at once.
        device: Where logits are.
    """

    def __init__(
        self, refusals: Mapping[str, Sequence[int]], end: int, slots: int, device: torch.device
    ) -> None:
        self._refusals, self._end, self._device = refusals, end, device
        width = max(map(len, refusals.values()), default=0) + 1
        self._refused = torch.zeros(slots, dtype=torch.bool, device=device)
        self._tokens = torch.zeros(slots, width, dtype=torch.long, device=device)
        self._length = torch.zeros(slots, dtype=torch.long, device=device)

    def refuse(self, slot: int, detector: str, length: int, end: int | None) -> None:
        """Refuse the request in a slot.

        Args:
            slot: The slot.
            detector: Whose refusal to say.
            length: How many tokens its prompt has.
            end: The token that ends its turn.
        """
        tokens = self._refusals[detector]
        # All that is left of the row ends the turn, and again if the request ignores that.
        self._tokens[slot] = self._end if end is None else end
        self._tokens[slot, : len(tokens)] = torch.tensor(tokens, device=self._device)
        self._length[slot] = length
        self._refused[slot] = True

    def allow(self, slot: int) -> None:
        """Let the request in a slot be answered; also when it is gone."""
        self._refused[slot] = False

    def hide(self, logits: Tensor, slots: Tensor, positions: Tensor) -> Tensor:
        """The logits, with only the refusal's next token possible in refused rows.

        Args:
            logits: One row per request, R x vocabulary.
            slots: The slot of each, R.
            positions: The position of the last token of each, R.
        """
        step, refused = self._now(slots, positions)
        if not bool(refused.any()):
            return logits
        logits = logits.clone()
        logits[refused] = -_CERTAIN
        logits[refused, self._next(slots, step)[refused]] = _CERTAIN
        return logits

    def overrule(self, sampled: Tensor, slots: Tensor, positions: Tensor) -> None:
        """Put the refusal's next token in the place of what was sampled, R x 1."""
        step, refused = self._now(slots, positions)
        tokens = self._next(slots, step).to(sampled.dtype)
        sampled[:, 0] = torch.where(refused, tokens, sampled[:, 0])

    def _now(self, slots: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """How many tokens of each answer there are, and whether it is refused."""
        step = positions - self._length[slots] + 1
        return step, self._refused[slots] & (step >= 0)

    def _next(self, slots: Tensor, step: Tensor) -> Tensor:
        return self._tokens[slots, step.clamp(0, self._tokens.shape[1] - 1)]
