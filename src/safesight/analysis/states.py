"""The states after every block at the last prompt token, from one prefill per batch.

The prefill is the one that the model's own `generate` runs, so whatever is attached to the model
acts as it does when the model answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.activations import capture, resid_post
from safesight.errors import InputError
from safesight.generation.answers import sequences_of
from safesight.models.asking import asked_slices, encode_asked

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["Step", "states_before_answer"]

Step = Callable[[int], None]
"""Takes the number of prompts read since the last call."""


def states_before_answer(
    vlm: VLM,
    samples: Sequence[Sample],
    *,
    layers: Sequence[int] | None = None,
    defended: AbstractContextManager[Any] | None = None,
    batch_size: int = 16,
    step: Step = lambda done: None,
) -> Tensor:
    """The state of every sample's last prompt token after each block, defenses included.

    Unlike `generation.last_token.last_states`, which bypasses every defense, it includes what is
    attached to the model.

    Prompts of similar length share a batch. If a defense generates more than once, the last
    prefill counts, and the returned answer must come from it.

    Args:
        vlm: The model; it is left unchanged.
        samples: What to ask.
        layers: Which blocks; None for all.
        defended: A context in which the model is defended, such as
            `defense.apply(vlm, artifact)`; entered once.
        batch_size: Maximum prompts per prefill.
        step: Called after each batch.

    Returns:
        n x layers x d, float32, on the CPU, in the order of the samples.

    Raises:
        InputError: there are no samples, or the answers of a defense do not come from its last
            prefill, one row per prompt.

    Example:
        >>> from safesight import VLM, registry
        >>> vlm = VLM.load("testbed")
        >>> states_before_answer(vlm, registry.load("benchmark", "vqa")(3)).shape
        torch.Size([3, 8, 192])
    """
    if not samples:
        raise InputError("There are no samples to read states from. Give at least one.")
    chosen = range(vlm.num_layers) if layers is None else layers
    order = sorted(range(len(samples)), key=lambda i: _length(samples[i]))
    found: dict[int, Tensor] = {}
    with torch.no_grad(), _watched(vlm, chosen) as seen, defended or nullcontext():
        for part in asked_slices([samples[row] for row in order], batch_size):
            rows = order[part]
            seen.clear()
            inputs = encode_asked(vlm, [samples[row] for row in rows])
            given = vlm.generate(inputs, max_new_tokens=1)[:, -1]
            states = _checked(seen, given)
            found.update(zip(rows, states, strict=True))
            step(len(rows))
    return torch.stack([found[row] for row in range(len(samples))])


def _length(sample: Sample) -> tuple[bool, int, int]:
    begun = sample.prefill is not None
    return begun, len(sample.pictures), len(sample.question) + len(sample.system or "")


def _checked(seen: Sequence[tuple[Tensor, Tensor]], given: Tensor) -> Tensor:
    """The states of the last prefill, if the first tokens of the answers came from it."""
    if not seen or not torch.equal(seen[-1][1], given):
        raise InputError(
            "The answers of this defense do not come from its last prefill, one row per prompt, "
            "so the states that they start from cannot be read. Leave it out."
        )
    return seen[-1][0]


@contextmanager
def _watched(vlm: VLM, layers: Sequence[int]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect the states, B x layers x d, and the B last tokens of each `generate` call.

    A defense attached inside this context wraps this generate, so its hooks are registered
    before the reading hooks, which therefore see its changes.
    """
    model = vlm.model
    sites = [resid_post(layer) for layer in layers]
    seen: list[tuple[Tensor, Tensor]] = []
    own = vars(model)
    hidden = own.get("generate")
    undefended = model.generate

    @functools.wraps(undefended)
    def generate(*args: Any, **kwargs: Any) -> Any:
        with capture(vlm.layers, sites, tokens="last") as states:
            output = undefended(*args, **kwargs)
        stacked = torch.stack([states[site].float().cpu() for site in sites], dim=1)
        seen.append((stacked, sequences_of(output)[:, -1]))
        return output

    own["generate"] = generate
    try:
        yield seen
    finally:
        if hidden is None:
            own.pop("generate", None)
        else:
            own["generate"] = hidden
