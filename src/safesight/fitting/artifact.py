"""The result of a fit: frozen numbers in a folder, tied to the model they were fitted on.

A folder holds `config.json` (what the defense needs to run), `card.json` (where it comes from)
and, if there are tensors, `tensors.safetensors`. Nothing is ever unpickled. What the numbers
mean is known only to the defense that reads them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from safesight.errors import ArtifactError, StorageError

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["Artifact", "dtype_of", "free_place", "how_to_fit"]

_CONFIG, _CARD, _TENSORS = "config.json", "card.json", "tensors.safetensors"
_FORMAT: Final = 2
_MAX_JSON_BYTES = 1 << 20
_MAX_TENSOR_BYTES = 1 << 32


class _ConfigFile(BaseModel):
    """`config.json`; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[2] = _FORMAT
    defense: str
    config: dict[str, Any]
    fitted: dict[str, Any]
    tensors: dict[str, str]
    """The content hash of every tensor, by name."""


@dataclass(frozen=True)
class Artifact:
    """A fitted defense: its settings, its numbers, and their origin.

    Example:
        >>> import torch
        >>> one = Artifact("sasa", {"eps": 1e-6}, tensors={"weight": torch.ones(2)})
        >>> two = Artifact("sasa", {"eps": 1e-6}, tensors={"weight": torch.zeros(2)})
        >>> one.hash == two.hash
        False
    """

    defense: str
    """Registry name of the defense that was fitted."""
    config: Mapping[str, Any]
    """The settings it was fitted with; JSON values only."""
    fitted: Mapping[str, Any] = field(default_factory=dict)
    """Values chosen by the fit, such as layers and thresholds; JSON values only."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    """Model name, revision and identity, data, seed, versions, calibration."""

    @property
    def identity(self) -> str | None:
        """Identity of the model it was fitted on, or None if it works on any model."""
        model = self.card.get("model")
        identity = model.get("identity") if isinstance(model, Mapping) else None
        return identity if isinstance(identity, str) else None

    @property
    def hash(self) -> str:
        """Hex hash of everything that affects answers: settings, numbers, model identity."""
        content = [self.defense, dict(self.config), dict(self.fitted), self.identity]
        tensors = {name: _tensor_hash(self.tensors[name]) for name in sorted(self.tensors)}
        return hashlib.sha256(_json([content, tensors]).encode()).hexdigest()

    def check_model(self, vlm: VLM) -> None:
        """Refuse a model other than the one this was fitted on.

        Raises:
            ArtifactError: weights, configuration or dtype differ.
        """
        if self.identity is not None and self.identity != vlm.identity:
            model = self.card["model"]
            raise ArtifactError(
                f"This {self.defense} artifact was fitted on {model.get('name')!r} "
                f"({self.identity[:12]}, {model.get('dtype')}), not on {vlm.name!r} "
                f"({vlm.identity[:12]}, {dtype_of(vlm)}). {how_to_fit(self.defense, vlm)}"
            )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the folder atomically; an existing artifact there is replaced.

        Raises:
            StorageError: the folder cannot be written, or holds something else.
        """
        target = free_place(folder)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".artifact-", dir=target.parent) as temporary:
                self._write(Path(temporary) / "new")
                _swap(Path(temporary) / "new", target, Path(temporary) / "old")
        except (OSError, SafetensorError) as error:
            raise StorageError(
                f"The artifact could not be written to {target} ({error}). "
                "Choose a folder you can write to, with free space."
            ) from error
        return target

    def _write(self, folder: Path) -> None:
        folder.mkdir()
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.tensors.items()}
        if tensors:
            save_file(tensors, folder / _TENSORS)
        content = _ConfigFile(
            defense=self.defense,
            config=dict(self.config),
            fitted=dict(self.fitted),
            tensors={name: _tensor_hash(value) for name, value in sorted(tensors.items())},
        )
        (folder / _CONFIG).write_text(_json(content.model_dump(), indent=2), encoding="utf-8")
        (folder / _CARD).write_text(_json(dict(self.card), indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Artifact:
        """Read a folder that `save` wrote.

        Raises:
            ArtifactError: the folder is missing, incomplete, damaged, not an artifact, or in the
                format of an older version.
        """
        path = Path(folder)
        if not path.is_dir():
            raise ArtifactError(
                f"There is no artifact folder at {path}. Fit one: safesight fit DEFENSE -o {path}"
            )
        try:
            raw = _read_json(path / _CONFIG)
            _refuse_older(path, raw)
            content = _ConfigFile.model_validate(raw)
            card = _read_json(path / _CARD)
            tensors = _read_tensors(path / _TENSORS) if content.tensors else {}
        except (OSError, ValueError, SafetensorError) as error:
            raise _damaged(path, _reason(error)) from error
        if {name: _tensor_hash(value) for name, value in tensors.items()} != content.tensors:
            raise _damaged(path, "its tensors have changed since they were saved")
        if not isinstance(card, dict):
            raise _damaged(path, f"{_CARD} is not a JSON object")
        return cls(content.defense, content.config, content.fitted, tensors, card)


def how_to_fit(defense: str, vlm: VLM) -> str:
    """The sentence that says how to fit a defense on a model as it was loaded."""
    return (
        f"Fit one for this model: safesight fit {defense} --model {vlm.name} "
        f"--dtype {dtype_of(vlm)} -o FOLDER"
    )


def dtype_of(vlm: VLM) -> str:
    """The dtype as the command line names it."""
    return str(vlm.dtype).removeprefix("torch.")


def _swap(new: Path, target: Path, old: Path) -> None:
    """Replace `target` with `new`, or leave `target` as it was, even if Ctrl-C comes between."""
    try:
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise


def _refuse_older(path: Path, raw: Any) -> None:
    """An older format has settings under other names, so it would be misread."""
    found = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(found, int) and found < _FORMAT:
        raise ArtifactError(
            f"The artifact at {path} has format {found}, but this version of safesight reads "
            f"format {_FORMAT}. Fit it again: safesight fit {raw.get('defense')} -o {path}"
        )


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"The artifact at {path} cannot be used: {reason}. Fit it again, or copy it again."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{_CONFIG} has an invalid {'.'.join(map(str, first['loc']))} ({first['msg']})"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def free_place(folder: str | os.PathLike[str]) -> Path:
    """The resolved folder, after checking that an artifact may be written there.

    Raises:
        StorageError: the folder holds something else.
    """
    target = Path(folder)
    if target.exists() and not _replaceable(target):
        raise StorageError(
            f"{target} exists and is not an artifact, so it was left alone. "
            "Choose a new folder, or empty this one."
        )
    return target


def _replaceable(folder: Path) -> bool:
    """Whether a folder is empty or holds an artifact and nothing else."""
    if not folder.is_dir():
        return False
    names = {entry.name for entry in folder.iterdir()}
    return not names or (_CONFIG in names and names <= {_CONFIG, _CARD, _TENSORS})


def _read_json(path: Path) -> Any:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ValueError(f"{path.name} is larger than {_MAX_JSON_BYTES >> 20} MB")
    return json.loads(path.read_text(encoding="utf-8"))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.stat().st_size > _MAX_TENSOR_BYTES:
        raise ValueError(f"{path.name} is larger than {_MAX_TENSOR_BYTES >> 30} GB")
    return load_file(path)


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, indent=indent)


def _tensor_hash(value: Tensor) -> str:
    import torch

    value = value.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)} ".encode())
    digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
