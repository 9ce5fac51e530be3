"""Runs the last blocks of vLLM's model again on packed states, past its cache.

The only part of a block that knows the paged cache is the forward of its `Attention`. While a
replay runs, that is replaced by causal attention of each prompt on itself, so nothing of the cache
is read or written.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safesight.errors import ModelError

__all__ = ["check_replay", "run_blocks", "uncached"]


def check_replay(layers: Sequence[nn.Module], name: str) -> None:
    """Refuse blocks whose attention is not the plain one.

    Raises:
        ModelError: a replay would compute something else than the block.
    """
    for layer in layers:
        parameters = list(inspect.signature(layer.forward).parameters)
        problems = (
            [] if parameters[:3] == ["positions", "hidden_states", "residual"] else parameters
        )
        for attention in _attentions([layer]):
            problems += _special(attention)
        if problems:
            raise ModelError(
                f"The blocks of {name!r} cannot be run again in vLLM ({type(layer).__name__}: "
                f"{', '.join(problems)}), as sasa has to. Use probe, or serve on transformers."
            )


def _special(attention: Any) -> list[str]:
    from vllm.v1.attention.backend import AttentionType

    found = [
        what
        for what in ("alibi_slopes", "logits_soft_cap", "sinks")
        if getattr(attention.impl, what, None) not in (None, 0, 0.0)
    ]
    if attention.kv_sharing_target_layer_name is not None:
        found.append("shared keys")
    if attention.attn_type != AttentionType.DECODER:
        found.append(str(attention.attn_type))
    return found


def run_blocks(
    layers: Sequence[nn.Module],
    start: int,
    hidden: Tensor,
    positions: Tensor,
    ends: Sequence[int],
    added: Mapping[int, Tensor],
) -> Tensor:
    """The output of the last block, T x d, if block `start - 1` had returned `hidden`.

    Args:
        layers: All blocks.
        start: The first one to run.
        hidden: T x d.
        positions: T, or 3 x T.
        ends: The row after the last one of every prompt.
        added: By block: what the model adds to its output before the next, T x d.
    """
    residual = None
    with torch.inference_mode(), uncached(layers[start:], ends):
        for index in range(start, len(layers)):
            if index - 1 in added:
                hidden = hidden + added[index - 1].to(hidden.dtype)
            output = layers[index](positions, hidden, residual)
            hidden, residual = output if isinstance(output, tuple) else (output, None)
    return hidden if residual is None else hidden + residual


@contextmanager
def uncached(layers: Sequence[nn.Module], ends: Sequence[int]) -> Iterator[None]:
    """Inside, these blocks attend within each prompt and touch no cache.

    Args:
        layers: The blocks.
        ends: The row after the last one of every prompt.
    """
    found = _attentions(layers)
    for attention in found:
        own = partial(_attend, attention, [0, *ends])
        object.__setattr__(attention, "forward", own)
    try:
        yield
    finally:
        for attention in found:
            object.__delattr__(attention, "forward")


def _attentions(layers: Sequence[nn.Module]) -> list[Any]:
    from vllm.model_executor.layers.attention import Attention

    return [each for layer in layers for each in layer.modules() if isinstance(each, Attention)]


def _attend(
    attention: Any,
    bounds: Sequence[int],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output_shape: Any = None,
    output_dtype: Any = None,
) -> Tensor:
    """Causal attention of every prompt on itself, within the block's window if it has one."""
    queries = query.view(-1, attention.num_heads, attention.head_size)
    keys = key.view(-1, attention.num_kv_heads, attention.head_size)
    values = value.view(-1, attention.num_kv_heads, attention.head_size_v)
    out = queries.new_empty(len(queries), attention.num_heads, attention.head_size_v)
    for start, stop in pairwise(bounds):
        mask = _window(attention, stop - start, queries.device)
        one, two, three = (
            each[None, start:stop].transpose(1, 2) for each in (queries, keys, values)
        )
        found = F.scaled_dot_product_attention(
            one,
            two,
            three,
            attn_mask=mask,
            is_causal=mask is None,
            scale=attention.impl.scale,
            enable_gqa=attention.num_heads != attention.num_kv_heads,
        )
        out[start:stop] = found[0].transpose(0, 1)
    return out.view(len(queries), -1)


def _window(attention: Any, length: int, device: torch.device) -> Tensor | None:
    """Which keys a query sees, L x L, if a sliding window hides some."""
    window = getattr(attention, "sliding_window", None)
    if window is None or length <= window:
        return None
    index = torch.arange(length, device=device)
    return (index[:, None] >= index) & (index[:, None] - index < window)
