"""Load a model and its processor by name, or explain in a sentence or two why that fails.

Reads safetensors only, never pickles, and runs no code from a checkpoint unless asked to.
Nothing here knows what a model is used for; see `vlm`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.utils import is_torchvision_available
from transformers.utils import logging as hf_logging

from safesight import ranks, registry
from safesight.errors import MissingExtraError, ModelError, PluginError, SafesightError
from safesight.extras import need
from safesight.models.built import bundled_folder
from safesight.models.no_torchvision import without_torchvision
from safesight.models.placement import (
    check_attention,
    check_map,
    check_modules,
    device_of,
    dtype_of,
)
from safesight.models.quantized import quantization_config

__all__ = ["LoadOptions", "Loaded", "load_pretrained", "load_text_model", "place_of", "public_name"]

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_FAILURES = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError)
"""The exceptions transformers raises for a checkpoint it cannot use."""
_MISSING_PACKAGE = re.compile(r"(?:requires the |Package `)(\w+)(?: library|` is required)")
"""How transformers says that a package is not installed."""


_HUB_OPTIONS = {"cache_dir", "force_download", "local_files_only", "proxies", "subfolder"}
"""Options of `from_pretrained` that the config and the processor are fetched with, too."""
_OURS = {"config", "output_loading_info", "torch_dtype", "use_safetensors"}


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded; see `VLM.load`."""

    device: str | None = None
    device_map: Any = None
    dtype: str | torch.dtype | None = None
    quantization_config: Any = None
    attn_implementation: str | None = None
    token: str | bool | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)
    """For `from_pretrained`."""


@dataclass(frozen=True)
class Loaded:
    """A loaded model and where it came from."""

    model: Any
    processor: Any
    name: str
    revision: str | None


def load_pretrained(name: str, options: LoadOptions) -> Loaded:
    """Load a bundled model, a local folder or a hub model.

    Raises:
        ModelError: the model cannot be used, for whatever reason.
        MissingExtraError: accelerate or a quantization library is not installed.
    """
    place = place_of(name)
    local = Path(place) if Path(place).is_dir() else None
    _check_options(name, options, local=local is not None)
    target = device_of(options.device)
    dtype = dtype_of(options.dtype, target)
    if local is not None:
        _check_weight_files(local)
    fetch: dict[str, Any] = {
        "revision": options.revision,
        "token": options.token,
        "trust_remote_code": options.trust_remote_code,
        **{key: value for key, value in options.more.items() if key in _HUB_OPTIONS},
    }
    with _quiet(bars=local is None):
        config = _guarded(name, "config", AutoConfig.from_pretrained, place, **fetch)
        config = _seeing(config)
        _check_task(name, config, options.trust_remote_code)
        _check_torchvision(name, config)
        with without_torchvision():
            processor = _guarded(name, "processor", AutoProcessor.from_pretrained, place, **fetch)
        placing = _placing(options, config, target)
        check_modules(options.device_map, config, trust_remote_code=options.trust_remote_code)
        model, info = _guarded(
            name,
            "weights",
            AutoModelForImageTextToText.from_pretrained,
            place,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **{**options.more, **fetch, **placing},
        )
        _check_complete(name, info)
        if "device_map" not in placing:
            model = _guarded(name, f"copy on {target!r}", model.to, target)
    revision = getattr(config, "_commit_hash", None) or options.revision
    return Loaded(model.eval(), processor, name, revision)


def load_text_model(name: str, revision: str | None = None, *, writes: bool) -> Loaded:
    """Load a model of texts and its tokenizer, from a local folder or the hub.

    Args:
        name: A folder, or a hub id.
        revision: Of a hub model.
        writes: Whether it writes text; else it only embeds it. One that writes may take pictures.

    Raises:
        ModelError: the model cannot be used, for whatever reason.
    """
    place = place_of(name)
    if local := Path(place).is_dir():
        _check_weight_files(Path(place))
    target = device_of(None)
    with _quiet(bars=not local):
        fetch = {"revision": revision}
        config = _guarded(name, "config", AutoConfig.from_pretrained, place, **fetch)
        kind: Any = AutoModel
        if writes:
            seeing = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
            kind = AutoModelForImageTextToText if seeing else AutoModelForCausalLM
        tokenizer = _guarded(name, "tokenizer", AutoTokenizer.from_pretrained, place, **fetch)
        model, info = _guarded(
            name,
            "weights",
            kind.from_pretrained,
            place,
            config=config,
            dtype=dtype_of(None, target),
            use_safetensors=True,
            output_loading_info=True,
            **fetch,
        )
        if writes:  # of one that embeds, the pooling layer is not used and often not there
            _check_complete(name, info)
        model = _guarded(name, f"copy on {target!r}", model.to, target)
    return Loaded(model.eval(), tokenizer, name, getattr(config, "_commit_hash", None) or revision)


def _check_options(name: str, options: LoadOptions, *, local: bool) -> None:
    if options.device is not None and options.device_map is not None:
        raise ModelError("device and device_map both say where the model goes. Give one of them.")
    if options.device_map is not None and (count := ranks.place().local_count) > 1:
        raise ModelError(
            f"A device map gives one model several devices, and {count} processes on this machine "
            "have a model each. Leave it out, or start one process for each machine."
        )
    ours = sorted(_OURS & set(options.more))
    if ours:
        raise ModelError(f"VLM.load sets {ours[0]} itself. Leave it out.")
    check_map(options.device_map)
    check_attention(options.attn_implementation)
    if local and options.revision is not None:
        raise ModelError(
            f"{name!r} is a folder, which has no revision {options.revision!r}. Leave it out, or "
            "name a model of the hub."
        )


def _placing(options: LoadOptions, config: Any, target: str) -> dict[str, Any]:
    """The options of `from_pretrained` that were asked for; others keep its own defaults."""
    wanted = quantization_config(options.quantization_config)
    place = options.device_map
    if wanted is not None or getattr(config, "quantization_config", None) is not None:
        # Quantized weights go to their device while they are loaded: not all can be moved.
        place = {"": target} if place is None else place
    if place is not None:
        need("accelerate", "train", "Loading with a device map")
    given = {
        "device_map": place,
        "quantization_config": wanted,
        "attn_implementation": options.attn_implementation,
    }
    return {key: value for key, value in given.items() if value is not None}


def public_name(name: str) -> str:
    """The registry name of a bundled model given by its folder; any other name unchanged.

    Artifacts and logs must not reveal where a package is installed.

    Example:
        >>> public_name(str(registry.load("model", "testbed"))), public_name("org/model")
        ('testbed', 'org/model')
    """
    place = name if "\0" in name else os.path.realpath(os.path.expanduser(name))
    for known in registry.names("model"):
        with suppress(PluginError, TypeError):  # another package's model is broken, or not a path
            if place == os.path.realpath(registry.load("model", known)):
                return known
    return name


def place_of(name: str) -> str:
    """The folder of a model, or its name on the hub.

    Raises:
        ModelError: it is neither.
    """
    if name in registry.names("model"):
        return bundled_folder(name)
    path = os.path.expanduser(name)
    if not name.strip() or "\0" in name:
        raise ModelError(f"{name!r} names no model. Use testbed, a folder, or a model of the hub.")
    if os.path.isdir(path):
        return path
    if os.path.isfile(path):
        raise ModelError(f"{name!r} is a file. Pass the folder that holds the model.")
    if name.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ModelError(f"There is no folder {_short(name)!r}. Check the path of the model.")
    if "/" not in name:  # not asked of the hub, whose models all have an organization
        near = difflib.get_close_matches(name, registry.names("model"), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ModelError(
            f"There is no model {_short(name)!r} and no such folder.{hint} "
            "A model of the hub is written organization/name."
        )
    return name


def _short(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:77]}..."


def _check_weight_files(folder: Path) -> None:
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} holds a PEFT adapter, not a model. Load its base model with transformers, "
            "put the adapter on it with peft, and pass the result to VLM.wrap or protect."
        )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
        if pickles:
            raise ModelError(
                f"{folder} holds only pickled weights ({pickles[0]}), which can run code when "
                "opened. Convert them to safetensors first."
            )
        raise ModelError(
            f"{folder} holds no weights. Put the model's safetensors files there, "
            "or check the path."
        )
    for path in files:
        try:
            with safe_open(path, framework="pt") as tensors:
                tensors.keys()
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"The weights file {path} cannot be read ({_first_line(error)}). "
                "It may be truncated: copy or download it again."
            ) from None


def _seeing(config: Any) -> Any:
    """The config of the part that sees and writes.

    An omni model also speaks; transformers loads its thinker alone from the weights of the whole.
    """
    thinker = getattr(config, "thinker_config", None)
    if thinker is None or type(thinker) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return config
    thinker._commit_hash = getattr(config, "_commit_hash", None)
    return thinker


def _check_torchvision(name: str, config: Any) -> None:
    """Name the missing package where transformers would only say that it knows no processor.

    Raises:
        MissingExtraError: the model's image processor exists for torchvision alone.
    """
    kinds = IMAGE_PROCESSOR_MAPPING_NAMES.get(config.model_type) or {}
    if "torchvision" in kinds and "pil" not in kinds and not is_torchvision_available():
        what = f"The image processor of {name!r} (model type {config.model_type!r})"
        raise MissingExtraError(what, "torchvision", "vision")


def _check_task(name: str, config: Any, trust_remote_code: bool) -> None:
    """Refuse models that take no pictures, before any weights are read."""
    by_remote_code = trust_remote_code and "AutoModelForImageTextToText" in (
        getattr(config, "auto_map", None) or {}
    )
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or by_remote_code:
        return
    if type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING and _has_vision(config):
        raise ModelError(
            f"{name!r} (model type {config.model_type!r}) takes pictures, but transformers does "
            "not list it under image-text-to-text, so what it expects is not known here. Choose "
            "another vision-language model."
        )
    raise ModelError(
        f"{name!r} (model type {config.model_type!r}) takes no pictures. "
        "Choose a vision-language model, one that transformers lists under image-text-to-text."
    )


def _has_vision(config: Any) -> bool:
    return any("vision" in part for part in getattr(config, "sub_configs", {}))


def _check_complete(name: str, info: dict[str, Any]) -> None:
    missing = sorted(info.get("missing_keys") or ())
    if missing:
        raise ModelError(
            f"The weights of {name!r} lack {len(missing)} of the model's tensors, including "
            f"{missing[0]!r}. Copy or download all of its files again."
        )


def _guarded(name: str, what: str, call: Any, *args: Any, **kwargs: Any) -> Any:
    """Run one loading step of transformers and translate its errors."""
    try:
        return call(*args, **kwargs)
    except _FAILURES as error:
        reason = _first_line(error)
        missing = _MISSING_PACKAGE.search(str(error))
        if missing is not None:
            raise _without(name, what, missing[1].lower()) from error
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{name!r} needs code that comes with its weights. Read that code, and load the "
                "model with trust_remote_code=True if you trust it."
            ) from error
        if isinstance(error, torch.OutOfMemoryError):
            raise ModelError(
                f"{name!r} does not fit on the device. Use dtype='bfloat16' or a smaller model."
            ) from error
        if isinstance(error, OSError) and not Path(name).is_dir():
            raise ModelError(
                f"{name!r} is neither a folder nor a model that can be downloaded ({reason}). "
                "Check the name and the network, or pass the folder of a downloaded model."
            ) from error
        raise ModelError(
            f"The {what} of {name!r} cannot be used ({reason}). "
            "Check that the folder is complete and that transformers supports this model."
        ) from error


def _without(name: str, what: str, package: str) -> SafesightError:
    needs = f"The {what} of {name!r}"
    if package == "torchvision":
        return MissingExtraError(needs, package, "vision")
    return ModelError(
        f"{needs} needs the package {package}, which is not installed. Install it with pip."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:200]


@contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """Suppress transformers warnings while loading, and progress bars unless `bars`."""
    level, had_bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(hf_logging.CRITICAL)
    if not bars:
        hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if had_bars:
            hf_logging.enable_progress_bar()
