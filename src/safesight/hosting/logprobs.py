"""Log-probabilities of the tokens of an answer, as the model gave them.

A logits processor that stands before every other one of the caller keeps, for each step, the best
tokens of every row. So the numbers are those of the model with its defenses, before a temperature
or a seed has changed them. Only k + 1 numbers per token are kept, whatever the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["LogProbs", "TokenLogProb"]


@dataclass(frozen=True)
class TokenLogProb:
    """One token of an answer."""

    text: str
    logprob: float
    """Natural logarithm of its probability."""
    best: tuple[tuple[str, float], ...]
    """The most probable tokens at its place, and their logarithms."""


class LogProbs:
    """Keeps log-probabilities while `generate` runs.

    Args:
        best: How many of the most probable tokens to keep per step.

    Example:
        >>> import torch
        >>> kept = LogProbs(best=1)
        >>> scores = kept(torch.tensor([[3]]), torch.tensor([[0.0, 0.0]]))
        >>> [round(each.logprob, 3) for each in kept.of(0, [1], lambda token: f"t{token}")]
        [-0.693]
    """

    def __init__(self, best: int) -> None:
        self._best = best
        self._chosen: list[Tensor] = []
        self._ranked: list[tuple[Tensor, Tensor]] = []
        self._last: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Keep what a step says, B x V; never changes a score."""
        if self._last is not None:  # which token was chosen then is known only now
            self._chosen.append(self._last.gather(1, input_ids[:, -1:])[:, 0].cpu())
        self._last = scores.float().log_softmax(dim=-1)
        values, ids = self._last.topk(min(self._best, scores.shape[1]), dim=1)
        self._ranked.append((values.cpu(), ids.cpu()))
        return scores

    def of(
        self, row: int, tokens: Sequence[int], decode: Callable[[int], str]
    ) -> tuple[TokenLogProb, ...]:
        """The log-probabilities of the tokens of a row's answer, as far as steps have run."""
        found = []
        for step, token in enumerate(tokens[: len(self._ranked)]):
            known = step < len(self._chosen)
            assert self._last is not None
            value = self._chosen[step][row] if known else self._last[row, token]
            values, ids = (each[row].tolist() for each in self._ranked[step])
            best = tuple(zip(map(decode, ids), values, strict=True))
            found.append(TokenLogProb(decode(token), float(value), best))
        return tuple(found)
