"""The folder of a training run: prepared, marked as such, and never one that somebody needs.

`run.json` tells which run it is. `answers.json` keeps what the model answered before training: it
may answer otherwise when it is asked again, and a run resumes only with the same rows.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safesight import ranks
from safesight.errors import StorageError, TrainingError
from safesight.files import write_text
from safesight.training.plan import Answered, Fitting, TuningRun

__all__ = ["answered_before", "check_free", "run_folder"]

_RUN, _ANSWERS = "run.json", "answers.json"


@contextmanager
def run_folder(fitting: Fitting) -> Iterator[Path]:
    """The run's folder, prepared: with checkpoints if the run is resumed, else empty.

    Raises:
        StorageError: it holds something else, or cannot be written.
        TrainingError: the run in it differs from the one to resume.
    """
    run = fitting.run
    if run is None:
        with tempfile.TemporaryDirectory(prefix="safesight-") as temporary:
            yield Path(temporary)
        return
    if not ranks.first():  # which prepares it
        yield run.folder
        return
    about = fitting.about()
    check_free(run)
    found = _read(run.folder / _RUN)
    if run.resume:
        _check_same(run.folder, found, about)
    try:
        if not (run.resume and found):
            shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True, exist_ok=True)
        _write(run.folder / _RUN, {**about, "done": False})
        if fitting.answered is not None:
            _write(run.folder / _ANSWERS, fitting.answered._asdict())
        yield run.folder
        _write(run.folder / _RUN, {**about, "done": True})
    except OSError as error:
        raise StorageError(
            f"The run folder {run.folder} cannot be written ({error}). Free some space, or "
            "choose another folder."
        ) from error
    except KeyboardInterrupt:
        if not any(run.folder.glob("checkpoint-*")):
            raise
        raise KeyboardInterrupt(
            f"Checkpoints are in {run.folder}. Repeat the command with --resume to go on."
        ) from None


def check_free(run: TuningRun) -> None:
    """Refuse to delete files that may be wanted.

    Raises:
        StorageError: the folder holds other files, or a run that can be resumed.
    """
    found = _read(run.folder / _RUN)
    if not found and run.folder.exists() and any(run.folder.iterdir()):
        raise StorageError(
            f"{run.folder} is not a run folder, so it was left alone. Choose another."
        )
    if found and not run.resume and not found.get("done") and any(run.folder.glob("checkpoint-*")):
        raise StorageError(
            f"{run.folder} holds an unfinished run. Resume it with --resume, or remove the folder "
            "to start over."
        )


def answered_before(run: TuningRun | None, asked: str) -> Answered | None:
    """What the model answered when the run was started; None if it was asked something else.

    Args:
        run: The run, if it has a folder.
        asked: What names the questions, the model and the settings.
    """
    if run is None or not run.resume:
        return None
    found = _read(run.folder / _ANSWERS)
    try:
        kept = Answered(found["asked"], [(str(text), bool(whole)) for text, whole in found["said"]])
    except (KeyError, TypeError, ValueError):
        return None
    return kept if kept.asked == asked else None


def _check_same(folder: Path, found: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Refuse to mix two runs."""
    found = {"number of processes": 1, **found} if found else {}  # runs that did not count them
    other = next((key for key in about if found and found.get(key) != about[key]), None)
    if other:
        raise TrainingError(
            f"The run in {folder} has a different {other} and cannot be resumed. Use the "
            f"{other} it was started with, or another folder."
        )


def _read(path: Path) -> dict[str, Any]:
    """The content of a file; empty if it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
