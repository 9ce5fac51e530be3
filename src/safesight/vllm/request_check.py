"""What a request may ask of a defended engine; others are refused with HTTP status 400."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safesight.vllm.about import About

__all__ = ["check_request"]

_DESCRIBE = "describe"
_VALUES = ("on", "off")
_OF_PROMPT = ("prompt_logprobs", "prompt_logprob_token_ids")


def check_request(params: Any, about: About) -> None:
    """Refuse a request that turns its defenses off where that is not allowed, or passes them by.

    Args:
        params: vLLM's `SamplingParams`.
        about: The engine's defenses, and what the operator allows.

    Raises:
        ValueError: it asks for what it may not have, or only which defenses there are; vLLM makes
            an error of the client of it.
    """
    inside = bool(about.defenses)
    if inside and params.max_tokens == 1 and params.logprobs and not params.detokenize:
        raise ValueError(
            "Beam search cannot be defended: vLLM asks the engine again for every token, with the "
            "answer so far as part of the prompt. Leave out use_beam_search."
        )
    wanted = (getattr(params, "extra_args", None) or {}).get("safesight", "on")
    if wanted == _DESCRIBE:
        raise ValueError(about.told())
    if wanted not in _VALUES:
        raise ValueError(
            f"safesight can be 'on' or 'off' for a request, or 'describe', not {wanted!r:.40}."
        )
    if wanted == "off" and not about.per_request:
        raise ValueError(
            "This server does not let a request turn its defenses off. Leave out safesight."
        )
    told = any(getattr(params, name, None) is not None for name in _OF_PROMPT)
    if inside and told and wanted == "on":
        raise ValueError(
            "Log-probabilities of a prompt tell what the model would write after it, whatever a "
            "defense refuses. Leave out prompt_logprobs and echo."
        )
