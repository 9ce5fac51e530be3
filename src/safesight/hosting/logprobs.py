"""Log-probabilities of the tokens of an answer, as the model gave them.

A logits processor that stands before every other one of the caller keeps, for each step, the best
tokens of every row. So the numbers are those of the model with its defenses, before a temperature
or a seed has changed them. Only k + 1 numbers per token are kept, whatever the vocabulary.

Every token that the model wrote is listed, as vLLM does: the token that ends an answer and those of
a stop string, which are no part of the text, are in the probability of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["LogProbs", "TokenLogProb"]


@dataclass(frozen=True)
class TokenLogProb:
    """One token, in an answer or instead of it."""

    text: str
    spelled: bytes
    """What it stands for in UTF-8: perhaps part of a character, of which `text` has only a mark."""
    logprob: float
    """Natural logarithm of its probability."""
    best: tuple[TokenLogProb, ...] = ()
    """The most probable tokens at its place."""


class LogProbs:
    """Keeps log-probabilities while `generate` runs.

    Args:
        best: How many of the most probable tokens to keep per step.

    Example:
        >>> import torch
        >>> kept = LogProbs(best=1)
        >>> scores = kept(torch.tensor([[3]]), torch.tensor([[0.0, 0.0]]))
        >>> [round(each.logprob, 3) for each in kept.of(0, [1], lambda token: ("a", b"a"))]
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
        self, row: int, tokens: Sequence[int], read: Callable[[int], tuple[str, bytes]]
    ) -> tuple[TokenLogProb, ...]:
        """The log-probabilities of the tokens of a row's answer, as far as steps have run.

        Args:
            row: Its number in the batch.
            tokens: The answer.
            read: Gives the text of a token, and its bytes.
        """
        found = []
        for step, token in enumerate(tokens[: len(self._ranked)]):
            known = step < len(self._chosen)
            assert self._last is not None
            value = self._chosen[step][row] if known else self._last[row, token]
            values, ids = (each[row].tolist() for each in self._ranked[step])
            ranked = zip(map(read, ids), values, strict=True)
            best = tuple(TokenLogProb(*names, number) for names, number in ranked)
            found.append(TokenLogProb(*read(token), float(value), best))
        return tuple(found)
