"""Muon for the matrices of both transformers and AdamW for everything else, as one optimizer.

Muon (Jordan et al. 2024; torch.optim.Muon) makes a matrix's step equally large in every direction.
With it the decoder learns the language of this world in less than half the steps of AdamW; see
`LOG.md`. Of the model, only parameter names are known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["MuonAndAdamW"]

_NS_STEPS = 3
"""Newton-Schulz steps; the usual five took a fifth of the training time."""
_BLOCKS = ("model.language_model.layers.", "model.vision_tower.encoder.")


class MuonAndAdamW(torch.optim.Optimizer):
    """Steps both optimizers; schedulers and clipping see one list of parameter groups.

    Args:
        named: Names and parameters, as from `named_parameters`.
        lr: Learning rate of both. Muon's steps are scaled to the size of AdamW's, so one value
            suffices.
        weight_decay: Weight decay of both.
        betas: The betas of AdamW.

    Example:
        >>> layer = nn.Linear(4, 4)
        >>> optimizer = MuonAndAdamW([("model.language_model.layers.0.w", layer.weight)], lr=0.1)
        >>> layer(torch.ones(4)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        *,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in named:
            inner = name.startswith(_BLOCKS) and parameter.ndim == 2
            (matrices if inner else others).append(parameter)
        super().__init__([{"params": [*matrices, *others]}], {"lr": lr})
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(
                matrices,
                lr=lr,
                weight_decay=weight_decay,
                adjust_lr_fn="match_rms_adamw",
                ns_steps=_NS_STEPS,
            )
            self.parts.append(muon)
        if others:
            adamw = torch.optim.AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay)
            self.parts.append(adamw)
        self._share_groups()

    def _share_groups(self) -> None:
        """Use the groups of the parts themselves, since a scheduler writes learning rates there."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of both optimizers."""
        loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state of both optimizers."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore from `state_dict`."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
