"""Muon for the hidden matrices, AdamW for the rest, as one optimizer for the Trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["MuonAndAdamW"]


class MuonAndAdamW(torch.optim.Optimizer):
    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], lr: float, weight_decay: float, beta2: float) -> None:
        hidden, other = [], []
        for name, p in named:
            inner = p.ndim == 2 and "embed" not in name and "head" not in name
            (hidden if inner else other).append(p)
        self.parts = [torch.optim.AdamW(other, lr=lr, betas=(0.9, beta2), weight_decay=weight_decay)]
        if hidden:
            self.parts.insert(0, torch.optim.Muon(hidden, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
        super().__init__([{"params": [*hidden, *other]}], {"lr": lr})
        self.param_groups = [g for part in self.parts for g in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)
        self.param_groups = [g for part in self.parts for g in part.param_groups]
