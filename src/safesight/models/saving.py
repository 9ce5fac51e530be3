"""Saves a model so that both transformers and vLLM load it.

transformers 5 writes the parameters of a CLIP or SigLIP tower as `vision_tower.encoder...`, and
reads them with or without `vision_model.` after `vision_tower.`. Older versions wrote it, most
published checkpoints have it, and vLLM loads no other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["rename_tensors", "save_checkpoint"]

_TOWERS = ("CLIPVisionModel", "SiglipVisionModel")
_INDEX = "model.safetensors.index.json"
_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
)


def save_checkpoint(model: Any, folder: str | os.PathLike[str], processor: Any = None) -> None:
    """Write a model of transformers, and its processor, with the names that vLLM knows.

    Args:
        model: The model.
        folder: A new folder, or one with an older checkpoint of the same model.
        processor: Written beside it; None leaves it out.
    """
    place = Path(folder)
    with _without_idle_settings(model):
        model.save_pretrained(place)
    if processor is not None:
        processor.save_pretrained(place)
    towers = [
        name.removeprefix("model.")
        for name, module in model.named_modules()
        if type(module).__name__ in _TOWERS
    ]
    if not towers:
        return
    start = re.compile(
        rf"^((?:model\.)?(?:{'|'.join(map(re.escape, towers))})\.)(?!vision_model\.)"
    )

    def renamed(name: str) -> str:
        return start.sub(r"\1vision_model.", name)

    for file in sorted(place.glob("model*.safetensors")):
        rename_tensors(file, renamed)
    index = place / _INDEX
    if index.is_file():
        about = json.loads(index.read_text(encoding="utf-8"))
        about["weight_map"] = {renamed(name): file for name, file in about["weight_map"].items()}
        index.write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _without_idle_settings(model: Any) -> Iterator[None]:
    """Inside, a generation config that does not sample has no settings of sampling.

    Published checkpoints have them. transformers reads those with a warning, and refuses to write
    what they hold.
    """
    config = model.generation_config
    names = () if config is None or config.do_sample else _SAMPLING
    idle = {name: getattr(config, name, None) for name in names}
    idle = {name: value for name, value in idle.items() if value is not None}
    try:
        for name in idle:
            setattr(config, name, None)
        yield
    finally:
        for name, value in idle.items():
            setattr(config, name, value)


def rename_tensors(file: Path, renamed: Callable[[str], str]) -> None:
    """Give the tensors in a safetensors file other names, and leave their bytes as they are.

    Args:
        file: The file, which is replaced whole or not at all.
        renamed: Old name to new name.
    """
    with file.open("rb") as old:
        header = json.loads(old.read(int.from_bytes(old.read(8), "little")))
        new = {name if name == "__metadata__" else renamed(name): header[name] for name in header}
        if list(new) == list(header):
            return
        text = json.dumps(new, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # the format wants tensors aligned
        beside = file.with_name(f".{file.name}.new")
        try:
            with beside.open("wb") as made:
                made.write(len(text).to_bytes(8, "little") + text)
                shutil.copyfileobj(old, made)
            os.replace(beside, file)
        finally:
            beside.unlink(missing_ok=True)
