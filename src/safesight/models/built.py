"""Models that are built on first use, in the user's cache: once, and completely or not at all.

A bundled model that is too large for a package, or made of parts that others publish, is registered
as a `BuiltModel` instead of a path. Two processes that need it at the same time build it once. A
build that is killed leaves a folder beside the model's that the next build removes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # not listed there

from safesight import registry
from safesight.console import stderr
from safesight.errors import ModelError, StorageError, reason_of

__all__ = ["BuiltModel", "bundled_folder", "cache_folder"]


def cache_folder() -> Path:
    """Where models are built: `SAFESIGHT_CACHE`, else `safesight` in the user's cache."""
    if chosen := os.environ.get("SAFESIGHT_CACHE"):
        return Path(os.path.expanduser(chosen)).absolute()
    above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(above)).absolute() / "safesight"


@dataclass(frozen=True)
class BuiltModel(os.PathLike[str]):
    """The folder of a model, and what fills it. As a path it may not be there yet."""

    name: str
    make: Callable[[Path], None]
    """Writes the whole model to a new folder."""
    stamp: Callable[[], str]
    """What the model is made of, in a few letters: another stamp is another folder."""

    def __fspath__(self) -> str:
        return str(cache_folder() / f"{self.name}-{self.stamp()}")

    def ready(self) -> Path:
        """The folder, built if it is not there.

        Raises:
            StorageError: the cache cannot be written.
            SafesightError: whatever `make` raises.
        """
        folder = Path(self)
        if folder.is_dir():
            return folder
        with _cannot_write(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = WeakFileLock(folder.with_name(f".{folder.name}.lock"))
        with _cannot_write(folder), lock:
            if not folder.is_dir():
                self._build(folder)
        return folder

    def _build(self, folder: Path) -> None:
        beside = f".{folder.name}-"
        for killed in folder.parent.glob(f"{beside}*"):
            shutil.rmtree(killed, ignore_errors=True)
        stderr().print(f"Building {self.name} in {folder.parent}, once. It takes about a minute.")
        with tempfile.TemporaryDirectory(prefix=beside, dir=folder.parent) as place:
            made = Path(place) / folder.name
            self.make(made)
            os.replace(made, folder)


def bundled_folder(name: str) -> str:
    """The folder of a registered model, which is built first if that is how it comes.

    Raises:
        ModelError: there is no such folder.
        SafesightError: the model cannot be built.
    """
    found = registry.load("model", name)
    folder = found.ready() if isinstance(found, BuiltModel) else Path(found)
    if not folder.is_dir():
        raise ModelError(
            f"The model {name!r} should be in {folder}, but there is no such folder. "
            "Reinstall the package that it comes with."
        )
    return str(folder)


@contextmanager
def _cannot_write(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The model cannot be built in {folder.parent} ({reason_of(error)}). Set "
            "SAFESIGHT_CACHE to a folder that you can write to and that has free space."
        ) from error
