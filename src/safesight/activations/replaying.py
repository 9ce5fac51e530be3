"""Rerun the later decoder blocks on another hidden state, without a second prefill.

`record_calls` records how a model calls its blocks in the prefill (masks, position embeddings,
and what it adds between blocks); `replay` calls them again with a state of your choice. The
cache of the recorded generation is neither kept nor touched, so generation can continue from
it. To read states, use `capture`.

Some models let their last blocks reuse the keys of earlier blocks, and in `generate` run those
blocks on the last prompt token alone (Gemma 4); replay does the same.

Not supported: a prefill that continues an existing cache. `safesight check` tests whether replay
reproduces a given model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from safesight.activations.hooks import After, Before, hooked
from safesight.activations.sites import (
    CACHES,
    Blocks,
    check_layer,
    kept_of,
    past_length,
    read_input,
    read_output,
    write_input,
)
from safesight.errors import InputError

__all__ = ["BlockCall", "record_calls", "replay"]

SHARED = "shared_kv_states"
"""The argument in which transformers hands keys from block to block."""


@dataclass(frozen=True)
class BlockCall:
    """How one block was called in the prefill, without its hidden state and cache."""

    args: tuple[Any, ...]
    """Positional arguments; the first (the hidden state) is None."""
    kwargs: Mapping[str, Any]
    added: Tensor | None
    """What the model added to the previous block's output on entry, B x L x d, float32."""
    length: int
    """The number of tokens it ran on; fewer than the block before it if the model left some out."""
    prompt: int
    """The number of tokens of the whole pass."""


@contextmanager
def record_calls(
    layers: Blocks, start: int = 0, *, gradients: bool = False
) -> Iterator[dict[int, BlockCall]]:
    """Record how blocks `start` .. N-1 are called in this thread's first forward pass inside.

    Enter it inside any `edit` of the same blocks, so that it sees the edited states. With
    `gradients`, what the model adds between blocks stays in the graph.

    Raises:
        ModelError: the model has no block `start`.
        InputError: the first forward pass continues an existing cache (raised by that pass).

    Example:
        >>> import torch
        >>> from safesight.activations import record_calls, replay
        >>> layers = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)])
        >>> with record_calls(layers, start=1) as calls:
        ...     hidden = layers[0](torch.ones(1, 2, 4))
        ...     out = layers[1](hidden)
        >>> torch.equal(replay(layers, calls, hidden, start=1), out)
        True
    """
    check_layer(layers, start)
    calls: dict[int, BlockCall] = {}
    outputs: dict[int, Tensor] = {}
    prompt: list[int] = []
    with hooked() as hooks:
        hooks.before(layers[0], _refuse_continued(calls, prompt))
        for index in range(start, len(layers)):
            hooks.before(layers[index], _before(calls, outputs, prompt, index, gradients))
        for index in range(max(start - 1, 0), len(layers) - 1):
            hooks.after(layers[index], _after(calls, outputs, index, gradients))
        yield calls


def replay(layers: Blocks, calls: Mapping[int, BlockCall], hidden: Tensor, start: int) -> Tensor:
    """Run blocks `start` .. N-1 on `hidden`, as if block `start - 1` had returned it.

    Hooks on the blocks run, gradients follow the caller's mode, and no cache is read or written.

    Args:
        layers: The decoder blocks, in order.
        calls: The calls recorded by `record_calls`.
        hidden: B x L x d, with the batch size and length of the recorded prefill.
        start: The first block to run; at least the recorded `start`.

    Returns:
        The output of the last block, B x L x d, before the final norm.

    Raises:
        InputError: the recorded forward pass never reached these blocks.
    """
    check_layer(layers, start)
    shared = _Shared()
    for index in range(start, len(layers)):
        if index not in calls:
            raise InputError(
                f"Block {index} was not recorded, so it cannot be replayed. "
                f"Run a forward pass inside record_calls(layers, start={start}) first."
            )
        call = calls[index]
        hidden = kept_of(hidden, call.length)
        if call.added is not None:
            hidden = (hidden.float() + call.added).to(hidden.dtype)
        args, kwargs = write_input(call.args, shared.own(call), hidden)
        hidden = read_output(layers[index](*args, **kwargs))
    return hidden


class _Shared:
    """The keys that the blocks of one replay hand on to later ones, apart from the recorded ones.

    A block writes its keys into a mapping that all blocks get. Each replay works on a copy, so it
    neither changes what generation continues from nor sees another replay.
    """

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}

    def own(self, call: BlockCall) -> dict[str, Any]:
        """The arguments of one block, with this replay's copy of such a mapping."""
        given = call.kwargs.get(SHARED)
        if given is None:
            return dict(call.kwargs)
        if id(given) not in self._copies:
            mine = self._copies[id(given)] = copy(given)
            for name, keys in given.items():  # a static cache is longer than the prompt
                mine[name] = tuple(each[:, :, : call.prompt] for each in keys)
        return {**call.kwargs, SHARED: self._copies[id(given)]}


def _refuse_continued(calls: dict[int, BlockCall], prompt: list[int]) -> Before:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not calls and past_length(kwargs) > 0:
            raise InputError(
                "This generation continues an existing cache, whose tokens a detector cannot see. "
                "Pass the whole conversation and no past_key_values."
            )
        if not prompt:
            prompt.append(read_input(args, kwargs).shape[1])

    return hook


def _before(
    calls: dict[int, BlockCall],
    outputs: dict[int, Tensor],
    prompt: list[int],
    index: int,
    gradients: bool,
) -> Before:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if index in calls:
            return
        hidden = read_input(args, kwargs)
        hidden = hidden if gradients else hidden.detach()
        previous = outputs.pop(index - 1, None)
        added = None
        if previous is not None:
            previous = kept_of(previous, hidden.shape[1])
            if not torch.equal(previous, hidden):
                # In float32: adding it to the same state gives identical bits in bfloat16.
                added = hidden.float() - previous.float()
        calls[index] = BlockCall(
            args=(None, *args[1:]) if args else (),
            kwargs=_without_cache(kwargs, prompt[0]),
            added=added,
            length=hidden.shape[1],
            prompt=prompt[0],
        )

    return hook


def _after(
    calls: dict[int, BlockCall], outputs: dict[int, Tensor], index: int, gradients: bool
) -> After:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        # A copy, because a model may modify this tensor in place before the next block.
        if index + 1 not in calls:
            hidden = read_output(output)
            outputs[index] = (hidden if gradients else hidden.detach()).clone()

    return hook


def _without_cache(kwargs: Mapping[str, Any], length: int) -> dict[str, Any]:
    """The same call for a forward pass without a cache."""
    kept = {name: value for name, value in kwargs.items() if name not in CACHES}
    kept.pop("hidden_states", None)
    if "use_cache" in kept:
        kept["use_cache"] = False
    mask = kept.get("attention_mask")
    # With a static cache, masks are as wide as the cache; the prefill fills its beginning.
    if isinstance(mask, Tensor) and mask.dim() == 4 and mask.shape[-1] > length:
        kept["attention_mask"] = mask[..., :length]
    return kept
