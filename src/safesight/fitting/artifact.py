"""The result of a fit: frozen numbers in a folder, tied to the model they were fitted on.

A folder holds `config.json` (what the defense needs to run), `card.json` (where it comes from),
`tensors.safetensors` if there are tensors, and `split.jsonl` if it was fitted on somebody's own
file: which rows it saw. A digest in `config.json` covers all of it, so a file that was edited or
mixed up is noticed. What the numbers mean is known only to the defense that reads them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from safesight.errors import ArtifactError, StorageError, reason_of
from safesight.fitting.contents import digest_of, read_json, read_tensors, tensor_hash, to_json
from safesight.fitting.seen import SplitRow, read_split, split_hash, split_text

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["Artifact", "dtype_of", "free_place", "how_to_fit"]

_CONFIG, _CARD, _TENSORS = "config.json", "card.json", "tensors.safetensors"
_SPLIT = "split.jsonl"
_FORMAT: Final = 3
_FileT = TypeVar("_FileT", bound=BaseModel)


class _ConfigFile(BaseModel):
    """`config.json`; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[3]
    defense: str
    config: dict[str, Any]
    fitted: dict[str, Any]
    tensors: dict[str, str]
    """The content hash of every tensor, by name."""
    digest: str
    """Hash of all of the above and of the card."""

    def digest_with(self, card: Mapping[str, Any]) -> str:
        """What `digest` has to be."""
        return digest_of(self.model_dump(exclude={"digest"}), card)


class _Model(BaseModel):
    """What a card says about the model; a card of a plug-in may say more."""

    model_config = ConfigDict(strict=True)

    name: str | None = None
    revision: str | None = None
    identity: str | None = None
    dtype: str | None = None


class _CardFile(BaseModel):
    """`card.json`, as far as it is read here."""

    model_config = ConfigDict(strict=True)

    model: _Model = _Model()


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
    split: tuple[SplitRow, ...] = field(default=(), repr=False)
    """The rows of one's own that it was fitted on, and those kept for the test; see `with_split`.
    Empty if it was fitted on tasks."""

    def with_split(self, source: str, rows: Sequence[SplitRow], file: str = "") -> Artifact:
        """The same, with the rows of the file it was fitted on; the card holds their hash.

        Args:
            source: The file, in words.
            rows: Its rows, each with its split.
            file: Hash of the file's content, to tell whether it has changed.
        """
        return self._with_rows(rows, source=source, file=file)

    def with_more_rows(self, rows: Sequence[SplitRow]) -> Artifact:
        """The same, with the rows of another file, or other splits of rows that it lists already.

        Args:
            rows: The rows, each with its split.
        """
        again = {(row.id, row.shown) for row in rows}
        kept = [row for row in self.split if (row.id, row.shown) not in again]
        return self._with_rows([*kept, *rows])

    def _with_rows(self, rows: Sequence[SplitRow], **about: str) -> Artifact:
        counts = dict(sorted(Counter(row.split for row in rows).items()))
        data = {**self.card.get("data", {}), **about, "split": split_hash(rows), "rows": counts}
        return replace(self, card={**self.card, "data": data}, split=tuple(rows))

    @property
    def identity(self) -> str | None:
        """Identity of the model it was fitted on, or None if the card does not say."""
        model = self.card.get("model")
        identity = model.get("identity") if isinstance(model, Mapping) else None
        return identity if isinstance(identity, str) and identity else None

    @property
    def hash(self) -> str:
        """Hex hash of everything that affects answers: settings, numbers, model identity."""
        content = [self.defense, dict(self.config), dict(self.fitted), self.identity]
        tensors = {name: tensor_hash(self.tensors[name]) for name in sorted(self.tensors)}
        return hashlib.sha256(to_json([content, tensors]).encode()).hexdigest()

    def check_model(self, vlm: VLM) -> None:
        """Refuse a model other than the one this was fitted on.

        Raises:
            ArtifactError: weights, configuration or dtype differ, or the card names no model.
        """
        if self.identity is None:
            raise ArtifactError(
                f"This {self.defense} artifact does not say which model it was fitted on, so it "
                f"cannot be trusted on {vlm.name!r}. {how_to_fit(self.defense, vlm)}"
            )
        if self.identity != vlm.identity:
            model = self.card["model"]
            named = [self.identity[:12], *filter(None, [model.get("dtype")])]
            raise ArtifactError(
                f"This {self.defense} artifact was fitted on {model.get('name') or 'a model'!r} "
                f"({', '.join(map(str, named))}), not on {vlm.name!r} "
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
            format=_FORMAT,
            defense=self.defense,
            config=dict(self.config),
            fitted=dict(self.fitted),
            tensors={name: tensor_hash(value) for name, value in sorted(tensors.items())},
            digest="",
        )
        card = dict(self.card)
        content = content.model_copy(update={"digest": content.digest_with(card)})
        (folder / _CONFIG).write_text(to_json(content.model_dump(), indent=2), encoding="utf-8")
        (folder / _CARD).write_text(to_json(card, indent=2), encoding="utf-8")
        if self.split:
            (folder / _SPLIT).write_text(split_text(self.split), encoding="utf-8")

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
        if not (path / _CONFIG).exists():
            raise ArtifactError(
                f"{path} is not the folder of an artifact: it has no {_CONFIG}. Name the folder "
                "that a fit has written."
            )
        try:
            raw = read_json(path / _CONFIG)
            _refuse_older(path, raw)
            content = _validated(_ConfigFile, raw, _CONFIG)
            card = read_json(path / _CARD)
            _validated(_CardFile, card, _CARD)
            if content.digest_with(card) != content.digest:
                raise ValueError("its settings, numbers or card have changed since they were saved")
            tensors = read_tensors(path / _TENSORS) if content.tensors else {}
            if {name: tensor_hash(value) for name, value in tensors.items()} != content.tensors:
                raise ValueError("its tensors have changed since they were saved")
            data = card.get("data")
            expected = data.get("split") if isinstance(data, dict) else None
            split = () if expected is None else read_split(path / _SPLIT, str(expected))
        except (OSError, ValueError, SafetensorError) as error:
            raise _damaged(path, _reason(error)) from error
        return cls(content.defense, content.config, content.fitted, tensors, card, split)


def how_to_fit(defense: str, vlm: VLM) -> str:
    """The sentence that says how to fit a defense on a model as it was loaded."""
    from safesight.models.wrappers import adapters

    if adapters(vlm.model):
        return (
            "The command line loads this model without its adapters, so fit one in Python: "
            f'load_defense("{defense}").fit(vlm, data).save(FOLDER)'
        )
    return (
        f"Fit one for this model: safesight fit {defense} --model {vlm.name} "
        f"--dtype {dtype_of(vlm)} --data FILE -o FOLDER"
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
    if type(found) is int and 0 < found < _FORMAT:
        raise ArtifactError(
            f"The artifact at {path} has format {found}, but this version of safesight reads "
            f"format {_FORMAT}. Fit it again: safesight fit {_short(raw.get('defense'))} -o {path}"
        )


def _reason(error: Exception) -> str:
    """What is wrong with a file of an artifact, without its path, which the message has."""
    if isinstance(error, OSError) and error.filename:
        return f"{Path(error.filename).name}: {reason_of(error)}"
    return reason_of(error)


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"The artifact at {path} cannot be used: {reason}. Fit it again, or copy it again."
    )


def _validated(schema: type[_FileT], raw: Any, name: str) -> _FileT:
    """What the file holds.

    Raises:
        ValueError: it holds something else.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{name} is not a JSON object")
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = _short(".".join(map(str, first["loc"])))
        raise ValueError(f"{name} has an invalid {place} ({first['msg']})") from error


def _short(text: object) -> str:
    """One short line, whatever a file holds."""
    return textwrap.shorten(str(text), 80, placeholder="...")


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
    return not names or (_CONFIG in names and names <= {_CONFIG, _CARD, _TENSORS, _SPLIT})
