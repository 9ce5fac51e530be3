"""What an attacker minimizes: the wanted answer, and nothing that the defense would act on.

With the wanted answer y to a request with pixels x, a detector's margin m (its score less its
threshold) and the mean relative length e of what an edit adds to visual tokens,

    L(x) = -mean log p(y | x)  +  max(0, m(x) / |m(x_0)| + k)  +  e(x) / e(x_0)

where x_0 are the clean pixels, so that every term begins near one whatever the defense measures in.
An edit that stays in place is differentiated through, so the first term knows it. The second term
is that of Carlini and Wagner, "Adversarial Examples Are Not Easily Detected", AISec 2017,
arXiv 1705.07263.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from safesight.adversary.defended import Scores

__all__ = ["Objective"]

_SLACK = 0.25
"""k: how far below the threshold a score should be, relative to how far it was from it."""


@dataclass(frozen=True)
class Objective:
    """The loss of every row, from its scores before the attack.

    Example:
        >>> before = Scores(torch.tensor([2.0]), torch.tensor([4.0]), None)
        >>> loss = Objective(before)
        >>> loss(before), loss(Scores(torch.tensor([1.0]), torch.tensor([-2.0]), None))
        (tensor([3.2500]), tensor([1.]))
    """

    before: Scores

    def __call__(self, now: Scores) -> Tensor:
        """The loss of every row, B; gradients flow through it."""
        loss = now.nll
        if now.margin is not None and self.before.margin is not None:
            scale = self.before.margin.detach().abs().clamp(min=1e-6)
            loss = loss + torch.relu(now.margin / scale + _SLACK)
        if now.shift is not None and self.before.shift is not None:
            loss = loss + now.shift / self.before.shift.detach().clamp(min=1e-3)
        return loss
