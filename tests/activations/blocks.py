"""A decoder of four blocks, small enough to follow by hand, for the tests of this room."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Cache:
    def __init__(self) -> None:
        self.seen = 0

    def get_seq_length(self) -> int:
        return self.seen


class Block(nn.Module):
    def __init__(self, width: int, *, as_tuple: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.as_tuple = as_tuple

    def forward(self, hidden_states, attention_mask=None, use_cache=True, **caches):
        if attention_mask is not None:
            assert attention_mask.shape[-1] == hidden_states.shape[1], "as wide as the sequence"
        for cache in filter(None, caches.values()):
            cache.seen += hidden_states.shape[1]
        out = hidden_states + torch.tanh(self.linear(hidden_states))
        return (out,) if self.as_tuple else out


class Decoder(nn.Module):
    """`added` goes between the first and the second block, in place if asked."""

    cache_name = "past_key_values"

    def __init__(self, *, as_tuple=False, by_name=False, in_place=False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([Block(3, as_tuple=as_tuple) for _ in range(4)])
        self.by_name, self.in_place = by_name, in_place
        self.added: Tensor | None = None

    def forward(self, hidden, cache=None, mask=None):
        for index, block in enumerate(self.layers):
            kwargs = {"attention_mask": mask, self.cache_name: cache, "use_cache": True}
            out = block(hidden_states=hidden, **kwargs) if self.by_name else block(hidden, **kwargs)
            hidden = out[0] if isinstance(out, tuple) else out
            if index == 0 and self.added is not None:
                if self.in_place:
                    hidden += self.added
                else:
                    hidden = hidden + self.added
        return hidden


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
