"""Errors that a user can fix.

The command line prints the message without a traceback and exits with code 2. Any other
exception is a bug in safesight and keeps its traceback.

Each message is one or two sentences: what happened, with the values, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArtifactError",
    "InputError",
    "LengthError",
    "MissingExtraError",
    "ModelError",
    "PeerError",
    "PluginError",
    "SafesightError",
    "StorageError",
    "TrainingError",
    "UnknownNameError",
    "reason_of",
]


def reason_of(error: BaseException) -> str:
    """What an error of another library says, as part of a sentence: no number and no path.

    Example:
        >>> reason_of(FileNotFoundError(2, "No such file or directory", "x")), reason_of(KeyError())
        ('No such file or directory', 'KeyError')
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


class SafesightError(Exception):
    """Base of all errors that a user can fix."""


class ModelError(SafesightError):
    """A model cannot be loaded, or lacks what a defense needs."""


class PeerError(SafesightError):
    """Another process of a run that has several has stopped."""


class ArtifactError(SafesightError):
    """A fitted artifact is missing, damaged, or belongs to another model."""


class InputError(SafesightError):
    """A picture, a prompt or a data set cannot be used."""


class LengthError(InputError):
    """A prompt, with the answer that was asked for, is longer than the model's context.

    Args:
        message: With the lengths.
        left: How many tokens the prompt leaves for an answer; 0 or less if none.
    """

    def __init__(self, message: str, left: int) -> None:
        super().__init__(message)
        self.left = left


class StorageError(SafesightError):
    """A folder cannot be written, or holds files that safesight did not write."""


class TrainingError(SafesightError):
    """A training run diverged, or cannot be resumed."""


class PluginError(SafesightError):
    """What another package adds to a registry cannot be used."""


class MissingExtraError(SafesightError):
    """A part of safesight that is not installed.

    Example:
        >>> print(MissingExtraError("A report", "inspect_ai", "eval"))
        A report needs inspect_ai, which is not installed: pip install "safesight[eval]"

    A package that wants more than safesight uses of it is installed apart:
        >>> print(MissingExtraError("It", "one 1.0", "smol", apart="--no-deps one==1.0"))
        It needs one 1.0, which is not installed: pip install "safesight[smol]" && pip install \
--no-deps one==1.0
    """

    def __init__(self, what: str, module: str, extra: str, *, apart: str | None = None) -> None:
        more = f" && pip install {apart}" if apart else ""
        super().__init__(
            f'{what} needs {module}, which is not installed: pip install "safesight[{extra}]"{more}'
        )


class UnknownNameError(SafesightError):
    """A name that is not in a registry; the message suggests the nearest ones.

    Example:
        >>> print(UnknownNameError("defense", "sassa", ["none", "sasa"]))
        There is no defense called 'sassa'. Did you mean 'sasa'? Known: none, sasa.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"There is no {kind} called {name!r}.{hint} Known: {', '.join(known)}.")
