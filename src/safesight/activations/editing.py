"""Change hidden states while a model runs, and leave no trace.

`edit` applies functions at sites inside the decoder; leaving the context removes them, even on
an exception. `add` and `ablate` make the two usual functions. An edit that returns None leaves
the state untouched, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from safesight.activations.hooks import After, Before, hooked
from safesight.activations.sites import (
    Blocks,
    Site,
    TokenSelector,
    check_layer,
    past_length,
    read_input,
    read_output,
    replace,
    write_input,
    write_output,
)

__all__ = ["EditFn", "ablate", "add", "edit"]

EditFn = Callable[[Tensor], Tensor | None]
"""Takes B x L x d, returns the same shape and dtype, or None for "untouched"."""


@dataclass
class _Forward:
    """What the first block saw of the current forward pass."""

    is_prefill: bool = True
    length: int = 0
    """How many tokens the pass is over."""


@contextmanager
def edit(
    layers: Blocks,
    edits: Mapping[Site, EditFn],
    *,
    prefill_only: bool = False,
    prompt_length: int | None = None,
) -> Iterator[None]:
    """Apply a function at each site in every forward pass that this thread makes inside.

    Args:
        layers: The decoder blocks, in order.
        edits: The function for each site.
        prefill_only: Skip passes that continue a cache: the decoding steps of `generate`.
        prompt_length: Pass only this many leading positions to the functions. With
            `use_cache=False` every decoding step runs the whole sequence again; this makes
            such a step equal to a cached one, where only the prompt was edited.

    Raises:
        ModelError: a site names a block the model does not have.

    Example:
        >>> import torch
        >>> from safesight.activations import add, edit, resid_post
        >>> layers = torch.nn.ModuleList([torch.nn.Identity()])
        >>> with edit(layers, {resid_post(0): add(torch.ones(2), strength=3.0)}):
        ...     layers[0](torch.zeros(1, 1, 2))
        tensor([[[3., 3.]]])
    """
    for site in edits:
        check_layer(layers, site.layer)
    forward = _Forward()
    with hooked() as hooks:
        if edits and (prefill_only or prompt_length is not None):
            hooks.before(layers[0], _watch(forward, prefill_only))
        for site, function in edits.items():
            bounded = _bounded(function, prompt_length, forward)
            block = layers[site.layer]
            if site.place == "resid_pre":
                hooks.before(block, _before(bounded, forward))
            else:
                hooks.after(block, _after(bounded, forward))
        yield


def add(vector: Tensor, strength: float = 1.0, tokens: TokenSelector = None) -> EditFn:
    """An edit that adds `strength * vector` (d, or B x L x d) at the chosen tokens.

    Computed in float32. Strength 0 leaves the state untouched. A mask has the prompt's length,
    so it needs an edit that sees only the prompt (`prefill_only` or `prompt_length`).
    """

    def function(hidden: Tensor) -> Tensor | None:
        if strength == 0:
            return None
        shift = strength * vector.to(hidden.device, torch.float32)
        return replace(hidden, hidden.float() + shift, tokens)

    return function


def ablate(direction: Tensor, strength: float = 1.0, tokens: TokenSelector = None) -> EditFn:
    """An edit that removes `strength` times the component along `direction` (d, unit length).

    Computed in float32. Strength 0 leaves the state untouched, 1 removes the whole component.
    """

    def function(hidden: Tensor) -> Tensor | None:
        if strength == 0:
            return None
        axis = direction.to(hidden.device, torch.float32)
        states = hidden.float()
        component = (states @ axis)[..., None] * axis
        return replace(hidden, states - strength * component, tokens)

    return function


def _bounded(function: EditFn, prompt_length: int | None, forward: _Forward) -> EditFn:
    def checked(hidden: Tensor) -> Tensor | None:
        part = hidden
        if prompt_length is not None:
            # A block may run on the last tokens of the pass alone; see `kept_of`.
            left_out = max(forward.length - hidden.shape[1], 0)
            part = hidden[:, : max(prompt_length - left_out, 0)]
        if not part.shape[1]:
            return None
        new = function(part)
        if new is None:
            return None
        assert new.shape == part.shape, f"edit made {tuple(new.shape)} of {tuple(part.shape)}"
        assert new.dtype == part.dtype, f"edit made {new.dtype} of {part.dtype}"
        return new if part is hidden else torch.cat([new, hidden[:, part.shape[1] :]], dim=1)

    return checked


def _watch(forward: _Forward, prefill_only: bool) -> Before:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        forward.is_prefill = not prefill_only or past_length(kwargs) == 0
        forward.length = read_input(args, kwargs).shape[1]

    return hook


def _before(function: EditFn, forward: _Forward) -> Before:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        new = function(read_input(args, kwargs)) if forward.is_prefill else None
        return None if new is None else write_input(args, kwargs, new)

    return hook


def _after(function: EditFn, forward: _Forward) -> After:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        new = function(read_output(output)) if forward.is_prefill else None
        return None if new is None else write_output(output, new)

    return hook
