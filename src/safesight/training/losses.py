"""Losses that methods share: log-likelihoods of labelled tokens. Pure functions.

Shapes: B rows, T tokens, vocabulary size V. A label is at the position of its token and is
predicted by the logits one position earlier; `IGNORE` is not predicted.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from safesight.training.batches import IGNORE

__all__ = ["cross_entropy", "row_losses", "token_nll"]


def token_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p(label) at every labelled token, 0 elsewhere; B x (T - 1), float32.

    Args:
        logits: B x T x V.
        labels: B x T.

    Example:
        >>> import torch
        >>> token_nll(torch.zeros(1, 3, 4), torch.tensor([[2, IGNORE, 1]])).round(decimals=4)
        tensor([[0.0000, 1.3863]])
    """
    scores, wanted = logits[:, :-1].float(), labels[:, 1:]
    flat = F.cross_entropy(
        scores.flatten(0, 1), wanted.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view_as(wanted)


def row_losses(logits: Tensor, labels: Tensor, *, mean: bool = True) -> Tensor:
    """The negative log-likelihood of each row's labelled tokens, B: the mean or the sum.

        mean   -(1/|y|) sum_t log p(y_t | y_<t, x)
        sum    -sum_t log p(y_t | y_<t, x)

    A row without labels gives 0.

    Example:
        >>> import torch
        >>> logits, labels = torch.zeros(1, 3, 4), torch.tensor([[IGNORE, 1, 1]])
        >>> row_losses(logits, labels), row_losses(logits, labels, mean=False)
        (tensor([1.3863]), tensor([2.7726]))
    """
    total = token_nll(logits, labels).sum(dim=1)
    if not mean:
        return total
    return total / (labels[:, 1:] != IGNORE).sum(dim=1).clamp(min=1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over all labelled tokens of a batch, as `transformers` computes it; a scalar.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(1, 2, 4), torch.tensor([[IGNORE, 1]]))
        tensor(1.3863)
    """
    count = (labels[:, 1:] != IGNORE).sum().clamp(min=1)
    return token_nll(logits, labels).sum() / count
