"""Read the state of the last prompt token, for a data set or one batch, and change it.

At this token a chat model has read everything and written nothing. `states_of` reads it
for a fit, `last_states` for one call. `at_last` changes it in the prefill of a call and
nowhere else. The defenses that use this module decide what to do with the states.

Other modules read other states, for a reason: `analysis.states` sees what an attached defense
makes of them, `training.passes` the last block's output at every token of a training row, and
`testbed.measure` the raw `transformers` model, whose last hidden state is normalized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from safesight.activations import EditFn, capture, edit, hooked, last_of, resid_post
from safesight.errors import ModelError
from safesight.generation.calls import prompt_of, short_answer, undefended
from safesight.generation.edits import Change
from safesight.models.asking import by_batches, encode_asked
from safesight.types import Messages, Sample

if TYPE_CHECKING:
    from safesight.generation.call_types import Inputs
    from safesight.models import VLM

__all__ = [
    "at_last",
    "last_states",
    "last_tokens",
    "one_prompt",
    "states_of",
    "states_of_samples",
]

Prompt = TypeVar("Prompt", Sample, Messages)


def last_tokens(inputs: Inputs) -> Tensor:
    """B x L, True at the last prompt token of every row, with padding on either side.

    Example:
        >>> last_tokens({"attention_mask": torch.tensor([[0, 1, 1], [1, 1, 0]])})
        tensor([[False, False,  True],
                [False,  True, False]])
    """
    mask = inputs.get("attention_mask")
    if mask is None:
        mask = torch.ones(
            _prompt(inputs).shape[:2], dtype=torch.long, device=_prompt(inputs).device
        )
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (mask.bool() * positions).amax(dim=1, keepdim=True)
    return positions == last


def last_states(vlm: VLM, inputs: Inputs, layers: Sequence[int]) -> Tensor:
    """The outputs of blocks `layers` at the last prompt token, in one undefended prefill.

    Returns:
        B x layers x d, float32.
    """
    sites = [resid_post(layer) for layer in layers]
    with torch.no_grad(), capture(vlm.layers, sites, last_tokens(inputs)) as states:
        undefended(vlm)(**prompt_of(vlm, inputs), **short_answer(vlm, 1))
    return torch.stack([states[site].float().to(vlm.device) for site in sites], dim=1)


def states_of(
    vlm: VLM,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    *,
    batch_size: int,
    label: str,
    progress: bool,
) -> Tensor:
    """`last_states` for many samples or conversations: n x layers x d, float32, on the CPU."""

    def read(batch: Sequence[Prompt]) -> Tensor:
        return last_states(vlm, dict(encode_asked(vlm, batch)), layers).cpu()

    none = torch.zeros(0, len(layers), vlm.hidden_size)
    return torch.cat([none, *by_batches(prompts, batch_size, read, label, progress=progress)])


def states_of_samples(
    vlm: VLM, samples: Sequence[Sample], batch_size: int, label: str, progress: bool
) -> Tensor:
    """`states_of` for samples, after every block: n x layers x d."""
    return states_of(
        vlm,
        samples,
        range(vlm.num_layers),
        batch_size=batch_size,
        label=label,
        progress=progress,
    )


@contextmanager
def at_last(vlm: VLM, inputs: Inputs, changes: Mapping[int, Change]) -> Iterator[None]:
    """Change the last prompt token's state after some blocks, once, in the prefill of `inputs`.

    Without a cache every step runs the prompt again and the change is made again, so the
    result equals that of a cached generation.

    Args:
        vlm: The model that will run.
        inputs: The arguments its `generate` will be called with.
        changes: The change by block. It gets the rows of the batch in order, each repeated
            once per answer.

    Raises:
        ModelError: another prompt runs inside (raised by the forward pass), there is no such
            block, or no prefill passed one of the blocks.
    """
    chosen = last_tokens(inputs)
    done: set[int] = set()
    edits = {
        resid_post(layer): _edit(change, chosen, partial(done.add, layer))
        for layer, change in changes.items()
    }
    length = chosen.shape[1]
    with (
        one_prompt(vlm.layers[0], length),
        edit(vlm.layers, edits, prefill_only=True, prompt_length=length),
    ):
        yield
    if done != set(changes):  # an undefended answer must not be returned
        raise ModelError(
            f"No prefill of {vlm.name!r} passed its decoder blocks, so the answer was not defended "
            "and is not returned. Use model.generate."
        )


def _edit(change: Change, chosen: Tensor, done: Callable[[], None]) -> EditFn:
    def function(hidden: Tensor) -> Tensor:
        done()
        copies = len(hidden) // len(chosen)
        last = last_of(chosen.to(hidden.device), hidden.shape[1])
        where = torch.arange(len(hidden), device=hidden.device), last.repeat_interleave(copies)
        new = hidden.clone()
        new[where] = change(hidden[where].float()).to(hidden.dtype)
        return new

    return function


@contextmanager
def one_prompt(block: nn.Module, length: int) -> Iterator[None]:
    """Inside, the first forward pass must be over a prompt of this length.

    Raises:
        ModelError: it is over another (raised by that pass).
    """
    seen: list[int] = []

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        if not seen and hidden.shape[1] != length:
            raise ModelError(
                f"A prompt of {hidden.shape[1]} tokens ran under an edit made for one of "
                f"{length}: a defense inside it asks its own questions. Attach that one first."
            )
        seen.append(length)

    with hooked() as hooks:
        hooks.before(block, hook)
        yield


def _prompt(inputs: Inputs) -> Tensor:
    tokens = inputs.get("input_ids")
    prompt = inputs["inputs_embeds"] if tokens is None else tokens
    assert isinstance(prompt, Tensor)
    return prompt
