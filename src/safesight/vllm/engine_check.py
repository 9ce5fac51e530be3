"""Refuses an engine that cannot be defended, before any process starts, and sets what it needs.

vLLM calls `verify_and_update_config` of an architecture while it makes its configuration. What is
refused here would let an answer pass by the defenses, or change what they were fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safesight.errors import InputError, ModelError, SafesightError
from safesight.vllm.about import About, fingerprint
from safesight.vllm.architectures import ARCHITECTURES
from safesight.vllm.settings import Settings, settings_of
from safesight.vllm.versions import check_version

__all__ = ["checked"]

OP = "safesight::at_block"
_VIDEO_TOKENS = ("video_token_id", "video_token_index")


def checked(previous: Any) -> type[Any]:
    """VLLM's own check of an architecture, or None, with ours after it."""

    class Checked(*([previous] if previous is not None else [])):  # type: ignore[misc]
        by_safesight = True

        @staticmethod
        def verify_and_update_config(vllm_config: Any) -> None:
            if previous is not None:
                previous.verify_and_update_config(vllm_config)
            try:
                settings = settings_of(vllm_config)
                if settings is not None and settings.defended:
                    _check(vllm_config, settings)
                elif settings is not None:
                    _check_requests(vllm_config, settings, {})
            except SafesightError as error:
                raise ValueError(str(error)) from error  # vLLM shows a ValueError as it is

        @staticmethod
        def verify_and_update_model_config(model_config: Any) -> None:
            if previous is not None:
                previous.verify_and_update_model_config(model_config)

    return Checked


def _check(config: Any, settings: Settings) -> None:
    import vllm

    from safesight.vllm.attached import attached
    from safesight.vllm.host import Facts

    check_version(vllm.__version__, allowed=settings.allow_unvalidated)
    model = config.model_config
    if model.architecture not in ARCHITECTURES:
        raise ModelError(
            f"safesight cannot defend {model.architecture} in vLLM. It can defend "
            f"{', '.join(ARCHITECTURES)}; others with `safesight serve` on transformers."
        )
    defenses = attached(settings, Facts(model))
    problems = _problems(config)
    if problems:
        raise InputError(
            f"safesight cannot defend this engine with {'; nor with '.join(problems)}."
        )
    if not defenses.shares_prefixes(per_request=settings.per_request):
        config.cache_config.enable_prefix_caching = False
    _check_requests(config, settings, defenses.fingerprints)
    if not model.enforce_eager:
        _split_graphs(config)


def _check_requests(config: Any, settings: Settings, inside: Mapping[str, str]) -> None:
    """Have every request checked; `inside` are the fingerprints of the defenses in the engine."""
    from safesight.defenses.front_door import load_defense

    model = config.model_config
    if not inside and (config.speculative_config is not None or model.runner_type != "generate"):
        return  # where vLLM takes nobody's checks
    about = About(
        defenses=inside,
        per_request=bool(inside) and settings.per_request,
        template={name: fingerprint(load_defense(name), None) for name in settings.template},
    )
    runner = "v2" if config.use_v2_model_runner else "v1"
    own = f"safesight.vllm.runner_{runner}:{about.class_name}"
    if own not in (model.logits_processors or []):
        model.logits_processors = [*(model.logits_processors or []), own]


def _problems(config: Any) -> list[str]:
    """What of the engine's options would let an answer pass by, in words."""
    from vllm.platforms import current_platform

    parallel, model = config.parallel_config, config.model_config
    found = {
        "speculative decoding": config.speculative_config is not None,
        "pipeline parallelism (no rank sees all blocks)": parallel.pipeline_parallel_size > 1,
        "dual batch overlap": parallel.use_ubatching,
        "context parallelism": parallel.decode_context_parallel_size > 1
        or getattr(parallel, "prefill_context_parallel_size", 1) > 1,
        "prompt embeddings (--enable-prompt-embeds)": model.enable_prompt_embeds,
        "pictures on a CPU, where vLLM's attention does not let the tokens of a picture see each "
        "other, as this model does (--limit-mm-per-prompt '{\"image\": 0}' serves text)": (
            model.is_mm_prefix_lm and current_platform.is_cpu()
        ),
        "videos, which no defense covers (--limit-mm-per-prompt '{\"video\": 0}' refuses them)": (
            _takes_videos(model)
        ),
        "more than one picture in a prompt, as vLLM prepares several otherwise than transformers "
        "does for this model (--limit-mm-per-prompt '{\"image\": 1}')": _several_differ(model),
        "a pooling model": model.runner_type != "generate",
        "quantized weights": bool(model.quantization),
        "a KV cache in another dtype than the model's (--kv-cache-dtype)": (
            config.cache_config.cache_dtype not in ("auto", str(model.dtype).removeprefix("torch."))
        ),
        "prompts read elsewhere (--kv-transfer-config)": config.kv_transfer_config is not None,
        "--kv-sharing-fast-prefill": config.cache_config.kv_sharing_fast_prefill,
        "LoRA adapters beside defenses that read or change states": config.lora_config is not None,
    }
    return [words for words, there in found.items() if there]


def _takes_videos(model: Any) -> bool:
    """Whether a prompt may have a video, whose tokens are none of a picture's.

    VLLM has a limit also for models that take none, so its own says nothing about the model.
    """
    limits = model.multimodal_config
    if not limits or limits.get_limit_per_prompt("video") <= 0:
        return False
    named = (getattr(model.hf_config, name, None) for name in _VIDEO_TOKENS)
    return (
        "video" in limits.limit_per_prompt
        or model.architecture == "InternVLForConditionalGeneration"  # names none of its own
        or any(token is not None for token in named)
    )


def _several_differ(model: Any) -> bool:
    """Whether a prompt may have several pictures that vLLM prepares otherwise than transformers.

    vLLM cuts each of them into tiles as it does a single one, and transformers none of them.
    """
    several = model.multimodal_config and model.multimodal_config.get_limit_per_prompt("image") > 1
    return bool(several) and model.architecture == "LlavaOnevisionForConditionalGeneration"


def _split_graphs(config: Any) -> None:
    """Run our operator between compiled pieces, where it is Python, and never inside a graph.

    Raises:
        InputError: the operator would be inside a captured graph.
    """
    from vllm.config.compilation import CompilationMode, CUDAGraphMode

    compilation = config.compilation_config
    if compilation.mode not in (None, CompilationMode.NONE, CompilationMode.VLLM_COMPILE):
        raise InputError(
            f"safesight cannot defend an engine with compilation mode {compilation.mode}. "
            "Use vLLM's own (3), or --enforce-eager."
        )
    if compilation.use_inductor_graph_partition:
        raise InputError(
            "safesight cannot defend an engine with use_inductor_graph_partition. Leave it out."
        )
    if compilation.splitting_ops is None:
        compilation.splitting_ops = list(compilation._attention_ops)
    if OP not in compilation.splitting_ops:
        compilation.splitting_ops.append(OP)
    # A full graph is replayed without Python, so no hook would run.
    if compilation.cudagraph_mode not in (CUDAGraphMode.NONE, CUDAGraphMode.PIECEWISE):
        compilation.cudagraph_mode = CUDAGraphMode.PIECEWISE
