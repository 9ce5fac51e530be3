"""What would the model say if it stopped at this layer? The logit lens.

At each layer the last prompt token's state goes straight to the language head,

    z_l = LMhead(norm(h_l))

(nostalgebraist, 2020, https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/). At the last layer
this is what the model says. Two numbers are reported:

- readability: the share of the five most likely tokens that contain a letter or a digit and are
  not special tokens. The definition is that of a re-implementation of SASA (Wang et al., ACM MM
  2025, arXiv 2507.21637); where most of the vocabulary is readable, the share is high by chance.
- the rank of the correct object's word: of its first token with or without a leading space,
  whichever is more likely. It says whether the object can be read, not whether the answer
  begins with it.

Early layers were not trained for this head: what it cannot read may still be there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from safesight.analysis.results import Band, Form, Lens
from safesight.stats.bootstrap import mean_bands

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["TOP", "lens", "readable", "target_ranks", "token_text"]

TOP = 5
"""Tokens per layer. Source: secondary, a re-implementation of SASA."""

_WORD_MARKERS = "▁Ġ"
_CHUNK = 64


def readable(token: str) -> bool:
    """Whether a token of a vocabulary contains a letter or digit and is not a special token.

    Example:
        >>> [readable(token) for token in ("▁bomb", "Ġthe", "7", "<eos>", "Ġ", "!?")]
        [True, True, True, False, False, False]
    """
    bare = token.lstrip(_WORD_MARKERS)
    if re.fullmatch(r"<.*>", bare):
        return False
    return re.search(r"[A-Za-z0-9]", bare) is not None


def target_ranks(logits: Tensor, candidates: Sequence[Sequence[int]]) -> Tensor:
    """The best rank among each row's candidate tokens: n x vocabulary to n; 1 is the best.

    Example:
        >>> target_ranks(torch.tensor([[0.1, 0.9, 0.5]]), [[0, 2]]).tolist()
        [2]
    """
    best = torch.stack([row[list(ids)].max() for row, ids in zip(logits, candidates, strict=True)])
    return (logits > best[:, None]).sum(dim=1) + 1


def lens(vlm: VLM, states: Tensor, targets: Sequence[str], *, form: Form, seed: int = 0) -> Lens:
    """Readability, most common words and rank of the target's word at every layer.

    Args:
        vlm: The model whose head is used.
        states: n x layers x d, before the final norm.
        targets: The correct object of each sample.
        form: Form of the requests; stored in the result.
        seed: Seed of the bootstrap.
    """
    candidates = [_first_tokens(vlm.tokenizer, target) for target in targets]
    shares, words, ranks = [], [], []
    for layer in range(states.shape[1]):
        tokens, rank = _read(vlm, states[:, layer], candidates)
        shares.append([sum(map(readable, row)) / len(row) for row in tokens])
        words.append([token for token, _ in Counter(t for r in tokens for t in r).most_common(TOP)])
        ranks.append(np.percentile(rank, [25, 50, 75]))
    low, middle, high = np.array(ranks).T.tolist()
    return Lens(
        form=form,
        readable=[Band.of(each) for each in mean_bands(np.array(shares).T, seed)],
        words=[[token_text(vlm.tokenizer, token) for token in row] for row in words],
        rank=middle,
        rank_low=low,
        rank_high=high,
        n=len(states),
    )


def _read(
    vlm: VLM, states: Tensor, candidates: Sequence[Sequence[int]]
) -> tuple[list[list[str]], list[int]]:
    """The most likely tokens for each of n x d states, and the ranks of the candidates."""
    tokens: list[list[str]] = []
    ranks: list[int] = []
    for start in range(0, len(states), _CHUNK):
        chunk = states[start : start + _CHUNK]
        with torch.no_grad():
            logits = vlm.logits_of(chunk.to(vlm.device)).float().cpu()
        top = logits.topk(min(TOP, logits.shape[1])).indices.tolist()
        tokens += [_names(vlm.tokenizer, row) for row in top]
        ranks += target_ranks(logits, candidates[start : start + _CHUNK]).tolist()
    return tokens, ranks


def _names(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Tokens as the vocabulary spells them; ids beyond it (padding of the head) have none."""
    return [name or "<none>" for name in tokenizer.convert_ids_to_tokens(list(ids))]


def _first_tokens(tokenizer: Any, word: str) -> list[int]:
    """First token of the word, after a space and at the start of a text.

    Some tokenizers put a token for the space itself before a word. It says nothing of the word.
    """
    spelled = [
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (f" {word}", word)
    ]
    said = [[one for one in ids if tokenizer.decode([one]).strip()] for ids in spelled]
    return sorted({ids[0] for ids in said if ids})


def token_text(tokenizer: Any, token: str) -> str:
    """A token of a vocabulary as text, without a leading space unless there is nothing else."""
    text: str = tokenizer.convert_tokens_to_string([token])
    return text.lstrip(" ") or text or " "
