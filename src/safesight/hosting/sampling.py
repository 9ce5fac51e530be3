"""Sampling that depends only on the seed and the text, not on the other rows of the batch.

`generate` draws from one global generator for a whole batch, so the same prompt with the same
seed would get a different answer in another batch. Here each row gets its own noise, derived from
the seed and the tokens so far, and greedy decoding of the noisy scores is an exact draw (the
Gumbel-max trick). Pure torch; knows nothing about models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["SeededSampling"]


class SeededSampling:
    """A logits processor for greedy `generate` that turns it into seeded sampling.

    Args:
        seed: Seed of all draws, or one seed per row.
        temperature: Divides the scores; above 0.
        top_p: Draw only from the most probable tokens that together reach this probability.
        top_k: Draw only from this many of the most probable tokens.
        pad: The padding token, ignored when the noise is derived.

    Example:
        >>> sampling = SeededSampling(seed=0, temperature=1.0)
        >>> prompt = torch.tensor([[5, 6]])
        >>> noisy = sampling(prompt, torch.zeros(1, 4))
        >>> torch.equal(noisy, sampling(prompt, torch.zeros(1, 4)))
        True
    """

    def __init__(
        self,
        seed: int | Sequence[int],
        temperature: float,
        top_p: float | None = None,
        top_k: int | None = None,
        pad: int | None = None,
    ) -> None:
        self.seed, self.temperature = seed, temperature
        self.top_p, self.top_k, self.pad = top_p, top_k, pad

    def for_rows(self, rows: Sequence[int]) -> SeededSampling:
        """The same draws for some of the rows, in this order."""
        seed = self.seed if isinstance(self.seed, int) else [self.seed[row] for row in rows]
        return SeededSampling(seed, self.temperature, self.top_p, self.top_k, self.pad)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores B x V whose largest entry is the token drawn for each row."""
        logits = self._warp(scores.float() / self.temperature)
        rows, size = input_ids.tolist(), logits.shape[1]
        seeds = [self.seed] * len(rows) if isinstance(self.seed, int) else self.seed
        noise = torch.stack(
            [self._gumbel(seed, row, size) for seed, row in zip(seeds, rows, strict=True)]
        )
        return logits + noise.to(logits.device)

    def _warp(self, logits: Tensor) -> Tensor:
        """Give tokens outside top-k and top-p zero probability; the best one always stays."""
        if self.top_k is not None and self.top_k < logits.shape[1]:
            least = logits.topk(self.top_k, dim=1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            ranked, order = logits.sort(dim=1, descending=True)
            before = ranked.softmax(1).cumsum(1) - ranked.softmax(1)
            drop = (before >= self.top_p).scatter(1, order, before >= self.top_p)
            drop.scatter_(1, order[:, :1], False)
            logits = logits.masked_fill(drop, -torch.inf)
        return logits

    def _gumbel(self, seed: int, tokens: list[int], size: int) -> Tensor:
        start = 0
        while start < len(tokens) - 1 and tokens[start] == self.pad:
            start += 1
        digest = hashlib.sha256(repr((seed, tokens[start:])).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        uniform = torch.rand(size, generator=generator, dtype=torch.float64)
        return -(-uniform.clamp_min(1e-300).log()).log().float()
