"""Export an artifact of changed weights for other programs: as a checkpoint or an adapter.

`merge` writes the whole model with the changes merged into its weights. The result loads in
`transformers`, vLLM or `VLM.load`, without this package. `export_adapter` writes the LoRA
adapter alone, in PEFT's format. Neither changes the model in memory.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from safesight.errors import ArtifactError, StorageError
from safesight.extras import need
from safesight.fitting.stored import Stored
from safesight.models.saving import save_checkpoint
from safesight.training.choice import Choice
from safesight.training.weights import Weights, tuned

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.models import VLM

__all__ = ["check_mergeable", "export_adapter", "merge"]

_CARD = "safesight.json"


_FUSED = dict.fromkeys(
    ("glm4v_moe", "qwen3_omni_moe_thinker"), ("gate_proj", "up_proj", "down_proj")
)
"""Family to linear layers that PEFT turns into parts of fused experts, wherever they are."""


def check_mergeable(artifact: Artifact) -> None:
    """Check that an artifact changes weights, as only some defenses do.

    Raises:
        ArtifactError: it does not.
    """
    if not {"lora", "whole"} & artifact.fitted.keys():
        raise ArtifactError(
            f"{artifact.defense} changes no weights, so there is nothing to merge. It acts while "
            "the model generates: pass its artifact to protect, or to --artifact."
        )


def merge(vlm: VLM, artifact: Artifact, folder: str | os.PathLike[str]) -> Path:
    """Write the model with an artifact's changes merged into its weights, and its processor.

    Its answers match those of the model with the artifact attached, up to rounding in the
    weights' dtype.

    Raises:
        ArtifactError: the artifact changes no weights, or belongs to another model.
        StorageError: the folder is in use or cannot be written.
    """
    check_mergeable(artifact)
    artifact.check_model(vlm)
    with tuned(vlm, Weights.read(Stored(artifact, vlm))) as result:
        merged = result.merged()
    with _new_folder(folder) as temporary, _swapped(vlm.model, merged):
        save_checkpoint(vlm.model, temporary, vlm.processor)
        _write_card(temporary, artifact)
    return Path(folder)


def export_adapter(artifact: Artifact, folder: str | os.PathLike[str]) -> Path:
    """Write an artifact's LoRA weights as a PEFT adapter, for `PeftModel.from_pretrained`.

    Raises:
        ArtifactError: the artifact changes no weights or whole parameters, which no adapter can
            hold; PEFT would read the adapter otherwise; or it is damaged.
        StorageError: the folder is in use or cannot be written.
    """
    need("peft", "train", "Writing an adapter")
    from peft import LoraConfig

    check_mergeable(artifact)
    choice = Choice.of(artifact)
    if choice.whole or not choice.lora:
        raise ArtifactError(
            f"This {artifact.defense} artifact changes {len(choice.whole)} parameters in full, "
            "which an adapter cannot hold. Write a checkpoint instead: safesight merge."
        )
    family = str(artifact.card.get("model", {}).get("family"))
    if family in _FUSED and any(name.endswith(_FUSED[family]) for name in choice.lora):
        raise ArtifactError(
            f"PEFT takes the dense blocks of a {family} model for experts when it reads an "
            "adapter, and would lose weights. Write a checkpoint instead: safesight merge."
        )
    config = LoraConfig(
        r=choice.rank,
        lora_alpha=choice.lora_alpha,
        target_modules=list(choice.lora),
        base_model_name_or_path=artifact.card.get("model", {}).get("name"),
        inference_mode=True,
    )
    ours = {f"{name}.lora_{side}.weight" for name in choice.lora for side in "AB"}
    if missing := sorted(ours - artifact.tensors.keys()):
        raise ArtifactError(
            f"The {artifact.defense} artifact does not hold {missing[0]!r}. Fit it again."
        )
    tensors = {f"base_model.model.{name}": artifact.tensors[name].contiguous() for name in ours}
    with _new_folder(folder) as temporary:
        config.save_pretrained(str(temporary))
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        _write_card(temporary, artifact)
    return Path(folder)


def _write_card(folder: Path, artifact: Artifact) -> None:
    """Record where the weights come from."""
    about: dict[str, Any] = {
        "defense": artifact.defense,
        "artifact": artifact.hash,
        "config": dict(artifact.config),
        **artifact.card,
    }
    (folder / _CARD).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder that becomes `folder` on success.

    Raises:
        StorageError: the folder already exists and is not empty, or cannot be written.
    """
    target = Path(folder)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise StorageError(f"{target} already exists. Choose a new folder, or empty this one.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".safesight-", dir=target.parent) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            yield new
            os.replace(new, target)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{target} could not be written ({error}). "
            "Choose a folder you can write to, with free space."
        ) from error


@contextmanager
def _swapped(model: Any, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, parameters have other values."""
    parameters = dict(model.named_parameters())
    originals = {name: parameters[name].data for name in tensors}
    try:
        for name, value in tensors.items():
            parameters[name].data = value
        yield
    finally:
        for name, value in originals.items():
            parameters[name].data = value
