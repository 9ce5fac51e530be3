"""What one `generate` call asks for: its prompt, its settings, and whether it can be judged.

Only reads calls. See `detectors` for what is done around them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.activations import Site
from safesight.errors import InputError
from safesight.generation.prefill import Prefill, watch

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = [
    "bind",
    "check_supported",
    "prompt_of",
    "refuse_begun",
    "run_prefill",
    "setting",
    "undefended",
]

_UNSUPPORTED = {
    "assistant_model": "assisted decoding",
    "prompt_lookup_num_tokens": "prompt lookup decoding",
    "custom_generate": "a custom decoding loop",
    "prefill_chunk_size": "a prefill in chunks",
    "penalty_alpha": "contrastive search",
    "dola_layers": "DoLa decoding",
}


def bind(generate: Any, args: tuple[Any, ...], kwargs: Inputs) -> Inputs:
    """One call of `generate` as keyword arguments, the prompt's tokens as `input_ids`."""
    bound = inspect.signature(generate).bind_partial(*args)
    inputs = {**bound.arguments, **kwargs}
    tokens = inputs.get("inputs")
    if isinstance(tokens, Tensor) and tokens.dim() == 2 and inputs.get("input_ids") is None:
        inputs["input_ids"] = inputs.pop("inputs")
    return inputs


def setting(vlm: VLM, inputs: Inputs, name: str) -> Any:
    """A generation setting: of the call, else of its configuration, else of the model's."""
    for value in (
        inputs.get(name),
        getattr(inputs.get("generation_config"), name, None),
        getattr(vlm.model.generation_config, name, None),
    ):
        if value is not None:
            return value
    return None


def check_supported(vlm: VLM, inputs: Inputs, cannot: str = "A detector cannot judge") -> None:
    """Refuse a call whose prefill a detector could not judge, or an edit not reach as a whole.

    Args:
        vlm: The model that will run.
        inputs: The call.
        cannot: The beginning of the complaint.

    Raises:
        InputError: beams, another decoding loop, a prefill in parts, or a batch with a streamer.
    """
    modes = [text for name, text in _UNSUPPORTED.items() if setting(vlm, inputs, name) is not None]
    if (setting(vlm, inputs, "num_beams") or 1) > 1:
        modes.insert(0, f"num_beams={setting(vlm, inputs, 'num_beams')}")
    if setting(vlm, inputs, "cache_implementation") == "paged":
        modes.append("continuous batching")
    if modes:
        raise InputError(
            f"{cannot} a generation with {modes[0]}. "
            "Use greedy decoding or sampling, or remove the defense."
        )
    tokens = inputs.get("input_ids", inputs.get("inputs_embeds"))
    if inputs.get("streamer") is not None and tokens is not None and len(tokens) > 1:
        raise InputError(
            f"A streamer takes one prompt, but this batch has {len(tokens)}. Pass one at a time."
        )
    refuse_begun(inputs, f"{cannot} a part of a prompt")


def refuse_begun(inputs: Inputs, why: str) -> None:
    """Refuse a call that goes on from a cache of an earlier one.

    Raises:
        InputError: `past_key_values` holds a part of the prompt.
    """
    cache = inputs.get("past_key_values")
    length = getattr(cache, "get_seq_length", None)
    if cache is not None and (length is None or length() > 0):
        raise InputError(
            f"{why}, but generate was given a cache that already "
            "holds a part of it. Pass the whole conversation and no past_key_values."
        )


def prompt_of(vlm: VLM, inputs: Inputs) -> Inputs:
    """The tensors of the prompt alone, without any setting of how it is answered."""
    settings = set(inspect.signature(type(vlm.model).generate).parameters)
    settings |= set(vlm.model.generation_config.to_dict())
    return {name: value for name, value in inputs.items() if name not in settings}


def undefended(vlm: VLM) -> Generate:
    """The model's own generate, past any defense that is attached: for fits and prefills."""
    return partial(type(vlm.model).generate, vlm.model)


def run_prefill(
    vlm: VLM, inputs: Inputs, sites: Sequence[Site], replay_from: int | None
) -> tuple[Any, Prefill]:
    """One undefended prefill, done exactly as generate does it, and what `watch` saw of it.

    Returns:
        What generate returned for one new token, and the prefill.
    """
    as_dict = bool(setting(vlm, inputs, "return_dict_in_generate"))
    with torch.no_grad(), watch(vlm, sites, replay_from, inputs.get("attention_mask")) as prefill:
        output = undefended(vlm)(
            **prompt_of(vlm, inputs),
            max_new_tokens=1,
            do_sample=False,
            return_dict_in_generate=as_dict,
        )
    return output, prefill
