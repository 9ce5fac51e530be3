"""Read hidden states while a model runs. Changes nothing in the model.

`capture` keeps the states of the first forward pass (the prefill, inside `generate`) at the
requested sites. To change states see `edit`; to rerun blocks on another state see `replay`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from safesight.activations.hooks import After, Before, hooked
from safesight.activations.sites import (
    Blocks,
    Site,
    TokenSelector,
    check_layer,
    read_input,
    read_output,
    select,
)

__all__ = ["capture"]


@contextmanager
def capture(
    layers: Blocks,
    sites: Iterable[Site],
    tokens: TokenSelector = None,
    *,
    gradients: bool = False,
) -> Iterator[dict[Site, Tensor]]:
    """Collect the states at `sites` during the first forward pass of this thread inside.

    Later passes (the decoding steps of `generate`) and those of other threads are ignored. States
    are detached copies in the model's dtype, on the device of their block. Of two contexts on the
    same block, the one entered last sees the other's edits.

    Args:
        layers: The decoder blocks, in order.
        sites: Where to read.
        tokens: None for B x L x d, "last" for B x d, a B x L mask for n x d.
        gradients: Keep the copies in the graph, so that a function of them can be differentiated.

    Raises:
        ModelError: a site names a block the model does not have.

    Example:
        >>> import torch
        >>> from safesight.activations import capture, resid_post
        >>> layers = torch.nn.ModuleList([torch.nn.Linear(4, 4)])
        >>> with capture(layers, [resid_post(0)], tokens="last") as states:
        ...     _ = layers[0](torch.zeros(2, 3, 4))
        >>> states[resid_post(0)].shape
        torch.Size([2, 4])
    """
    sites = list(sites)
    for site in sites:
        check_layer(layers, site.layer)
    states: dict[Site, Tensor] = {}
    with hooked() as hooks:
        for site in sites:
            if site.place == "resid_pre":
                hooks.before(layers[site.layer], _before(states, site, (tokens, gradients)))
            else:
                hooks.after(layers[site.layer], _after(states, site, (tokens, gradients)))
        yield states


def _before(states: dict[Site, Tensor], site: Site, how: tuple[TokenSelector, bool]) -> Before:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if site not in states:
            states[site] = select(read_input(args, kwargs), *how)

    return hook


def _after(states: dict[Site, Tensor], site: Site, how: tuple[TokenSelector, bool]) -> After:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if site not in states:
            states[site] = select(read_output(output), *how)

    return hook
