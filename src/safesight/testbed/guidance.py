"""Teaches a few attention heads where to look while the bundled VLM learns to read.

From billions of tokens, large models learn by themselves to attend to earlier occurrences of the
same word and of the word they are about to say (induction heads: Olsson et al. 2022, arXiv
2209.11895). The millions of tokens in this recipe are not enough for that; see `LOG.md`. So a loss
term on the attention teaches one head the first and one the second, in two blocks each. What to
do with what they find, they learn from the answers alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

__all__ = ["GUIDES", "Guide", "guided", "missed"]


@dataclass(frozen=True)
class Guide:
    """One attention head, and what it is taught to attend to."""

    layer: int
    head: int
    ahead: bool
    """True: attend to earlier occurrences of the next word; False: of the current word."""


GUIDES = (Guide(2, 0, False), Guide(4, 0, False), Guide(4, 1, True), Guide(6, 1, True))


@contextmanager
def guided(layers: Any, said: Tensor, labels: Tensor, words: Tensor) -> Iterator[list[Tensor]]:
    """Collect the loss term of every guide during the forward pass inside the context.

    Args:
        layers: The decoder blocks.
        said: Token id of the word that each token is or, for a visual token, shows; B x L.
        labels: Token ids to predict from these positions, as for the answer loss; B x L.
        words: Token ids to look for.
    """
    terms: list[Tensor] = []
    following = labels.roll(-1, dims=1)
    following[:, -1] = -1
    with ExitStack() as stack:
        for guide in GUIDES:
            wanted = following if guide.ahead else said

            def look(
                module: Any,
                args: Any,
                kwargs: Any,
                guide: Guide = guide,
                wanted: Tensor = wanted,
            ) -> None:
                hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
                scores = _scores(module, hidden, kwargs["position_embeddings"], guide.head)
                strictly = 0 if guide.ahead else -1
                terms.append(missed(scores, wanted, said, words, strictly))

            attention = layers[guide.layer].self_attn
            handle = attention.register_forward_pre_hook(look, with_kwargs=True)
            stack.callback(handle.remove)
        yield terms


def missed(scores: Tensor, wanted: Tensor, said: Tensor, words: Tensor, diagonal: int) -> Tensor:
    """How much attention misses its target.

        L = - mean_t log sum_{j in P(t)} a_tj,   P(t) = { j <= t + diagonal : said_j = wanted_t }

    over positions t whose wanted word is one of `words`. For a word that did not occur before,
    the target is the first position, as with attention sinks; that marks "not found".

    Args:
        scores: Attention before the softmax, B x L x L.
        wanted: Token id to look for from each position; B x L.
        said: Token id at each position; B x L.
        words: Token ids that count.
        diagonal: 0 lets a position attend to itself, -1 does not.

    Example:
        >>> said = torch.tensor([[5, 6, 5]])
        >>> scores = torch.zeros(1, 3, 3)  # all places alike: 1 of 1 right, and 1/3
        >>> round(float(missed(scores, said, said, torch.tensor([5]), -1).mul(2).exp()), 3)
        3.0
    """
    causal = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    places = (wanted[:, :, None] == said[:, None, :]) & causal.tril(diagonal)
    places[..., 0] |= ~places.any(-1)
    asked = torch.isin(wanted, words)
    if not bool(asked.any()):
        return scores.sum() * 0
    attention = scores.masked_fill(~causal, -torch.inf).log_softmax(-1)
    return -attention.masked_fill(~places, -torch.inf)[asked].logsumexp(-1).mean()


def _scores(module: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], head: int) -> Tensor:
    """The scores of one head, q k^T / sqrt(d), in float32: B x L x L."""
    rows = slice(head * module.head_dim, (head + 1) * module.head_dim)
    query = (hidden @ module.q_proj.weight[rows].T).float()[:, None]
    key = (hidden @ module.k_proj.weight[rows].T).float()[:, None]
    query, key = apply_rotary_pos_emb(query, key, rotary[0].float(), rotary[1].float())
    scores: Tensor = (query[:, 0] @ key[:, 0].transpose(-1, -2)) * module.head_dim**-0.5
    return scores
