"""Names for places inside a decoder, and the only code that knows how a block is called.

`layer` counts decoder blocks from 0. `resid_pre(l)` is the input of block `l`, `resid_post(l)`
its output, which is `hidden_states[l + 1]` in transformers, with two exceptions. For the last
block transformers returns the state *after* the final norm, while `resid_post` is the state
before it. And if a model adds something between two blocks (DeepStack), `resid_pre(l + 1)`
contains the addition and `resid_post(l)` does not.

Nothing here knows about pictures, chat or particular architectures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from safesight.errors import ModelError

__all__ = ["Blocks", "Place", "Site", "TokenSelector", "last_of", "resid_post", "resid_pre"]

Place = Literal["resid_pre", "resid_post"]

Blocks = nn.ModuleList | Sequence[nn.Module]
"""The decoder blocks of a model, in order."""

TokenSelector = Tensor | Literal["last"] | None
"""Which tokens: all (None), the last position ("last": the last prompt token, as rows
are padded on the left), or a boolean mask of shape B x L."""


@dataclass(frozen=True, order=True)
class Site:
    """One place in one decoder block.

    Example:
        >>> resid_post(3)
        Site(layer=3, place='resid_post')
    """

    layer: int
    place: Place


def resid_pre(layer: int) -> Site:
    """The input of block `layer`, B x L x d."""
    return Site(layer, "resid_pre")


def resid_post(layer: int) -> Site:
    """The output of block `layer`, B x L x d: `hidden_states[layer + 1]` of transformers."""
    return Site(layer, "resid_post")


def check_layer(layers: Blocks, layer: int) -> None:
    """Refuse a layer that the model does not have.

    Raises:
        ModelError: the layer is negative or beyond the last block.
    """
    if not 0 <= layer < len(layers):
        raise ModelError(
            f"Layer {layer} does not exist: this model has {len(layers)} decoder blocks. "
            f"Choose a layer from 0 to {len(layers) - 1}."
        )


def read_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The hidden state a block is called with, as first argument or by name."""
    hidden = args[0] if args else kwargs["hidden_states"]
    assert isinstance(hidden, Tensor)
    return hidden


def write_input(
    args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with another hidden state."""
    if args:
        return (hidden, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": hidden}


def read_output(output: Any) -> Tensor:
    """The hidden state a block returns, alone or as the first item of a tuple."""
    hidden = output[0] if isinstance(output, tuple) else output
    assert isinstance(hidden, Tensor)
    return hidden


def write_output(output: Any, hidden: Tensor) -> Any:
    """The same output with another hidden state."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


CACHES = ("cache", "past_key_values", "past_key_value", "cache_params")
"""The names under which models and their blocks receive a cache of earlier tokens.

transformers 5.24 calls it `cache` and takes the older names, too.
"""


def cache_of(kwargs: Mapping[str, Any]) -> Any:
    """The cache among the arguments of a call, or None."""
    return next((kwargs[name] for name in CACHES if kwargs.get(name) is not None), None)


def past_length(kwargs: Mapping[str, Any]) -> int:
    """How many tokens the cache held when this forward pass began; 0 in a prefill.

    Meaningful at the first block only: later blocks see a cache that the first has already
    extended.
    """
    length = getattr(cache_of(kwargs), "get_seq_length", None)
    return 0 if length is None else int(length())


def kept_of(states: Tensor, length: int) -> Tensor:
    """The last `length` tokens of B x L x ...: those a block runs on if the model drops the rest.

    In a generation only the last prompt token is needed after the blocks that write keys, so
    Gemma 4 runs its last blocks on that token alone.
    """
    return states if states.shape[1] == length else states[:, -length:]


def select(hidden: Tensor, tokens: TokenSelector, gradients: bool = False) -> Tensor:
    """The chosen tokens as a copy: B x L x d (all), B x d (last) or n x d (mask, row by row).

    Detached, unless gradients are to flow through it.
    """
    given = hidden if gradients else hidden.detach()
    if tokens is None:
        return given.clone()
    if isinstance(tokens, str):
        return given[:, -1].clone()
    return given[_mask(hidden, tokens)]


def replace(hidden: Tensor, new: Tensor, tokens: TokenSelector) -> Tensor:
    """`hidden` with `new` (B x L x d) at the chosen tokens; all others unchanged, bit for bit."""
    new = new.to(hidden.dtype)
    if tokens is None:
        return new
    if isinstance(tokens, str):
        return torch.cat([hidden[:, :-1], new[:, -1:]], dim=1)
    return torch.where(_mask(hidden, tokens)[..., None], new, hidden)


def _mask(hidden: Tensor, tokens: Tensor) -> Tensor:
    """The mask for the tokens that the block ran on.

    Raises:
        ModelError: the block did not run on some of the chosen tokens.
    """
    mask = kept_of(tokens, hidden.shape[1])
    assert mask.shape == hidden.shape[:2], (tokens.shape, hidden.shape)
    if mask is not tokens and int(mask.sum()) != int(tokens.sum()):
        raise ModelError(
            "In a generation this model runs its last blocks on the last prompt token alone, and "
            "these tokens come before it. Choose an earlier layer, and pad on the left."
        )
    return mask.to(hidden.device)


def last_of(mask: Tensor, length: int) -> Tensor:
    """The index of each row's last real token (B) among the `length` tokens a block ran on.

    Raises:
        ModelError: as for a mask: the block did not run on that token.
    """
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (mask.bool() * positions).amax(dim=1)
    _mask(last.new_zeros(len(mask), length), positions == last[:, None])
    return last - (mask.shape[1] - length)
