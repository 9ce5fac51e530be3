"""One evaluation from Python: arms times tasks, into a folder of Inspect logs, resumable.

Built on Inspect's `eval_set`: what stands in a log is never asked again, what does not
is asked once more. All that Inspect prints is silenced; a progress bar is shown
instead. Reading the answers back is the work of `logs`.
"""

from __future__ import annotations

import errno
import gc
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich
from inspect_ai import eval_set
from inspect_ai.log import EvalLog
from inspect_ai.model import Model, get_model

from safesight import registry
from safesight.errors import SafesightError, StorageError
from safesight.evals.logs import local_path, set_aside_torn
from safesight.evals.progress import Progress
from safesight.evals.session import Session, listening
from safesight.evals.tasks import registered

__all__ = ["run_eval"]

_ROOM = 1 << 20
"""Bytes that must be writable before anything is loaded."""
_LOG_BUFFER = 16
"""Answers that may be lost, and asked again, when the process is killed."""


def run_eval(
    model: str = "testbed",
    defenses: Sequence[str] = ("none",),
    tasks: Sequence[str] = ("image_harm", "over_refusal", "vqa"),
    *,
    log_dir: str | Path,
    limit: int | None = None,
    artifacts: Mapping[str, str | Path] | None = None,
    judge: str = "exact",
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
    model_args: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Ask every arm every task; a run that was stopped goes on where it was.

    Args:
        model: "testbed", a folder, or a hub id.
        defenses: Names of the registry, several at once joined by "+".
        tasks: Names of benchmarks of the registry; "vqa+prefill" is one under an attack.
        log_dir: Where the logs go; runs of the same models and tasks share it.
        limit: Samples a task; None is each benchmark's own choice.
        artifacts: Folders of what was fitted, by name in `defenses`.
        judge: A name of the registry.
        batch_size: Most answers in one batch.
        seed: Seed of the samples.
        progress: Show a progress bar.
        model_args: As for `VLM.load`, JSON values only: `dtype`, `device_map`, `revision`, ...

    Returns:
        One log for each arm and task; `read_answers(log_dir)` reads them.

    Raises:
        SafesightError: an unknown name, a model or artifact that cannot be used, a folder
            that cannot be written, a bad sample. Finished answers stay in the folder.
    """
    folder = _writable(Path(log_dir))
    registry.load("judge", judge)
    names = [registered(task) for task in tasks]
    arms = [
        _arm(model, defense, (artifacts or {}).get(defense), batch_size, dict(model_args or {}))
        for defense in dict.fromkeys(defenses)
    ]
    task_args = {"limit": limit, "seed": seed, "judge": judge}
    set_aside_torn(folder)
    with Progress(folder, task_args, visible=progress) as shown, _quiet(), _frozen_heap():
        session = Session(on_task=shown.add_task, on_answer=shown.advance)
        with listening(session):
            finished, logs = _run(folder, names, arms, task_args)
        if not finished:
            raise _error(session, logs, folder)
        shown.finish()
    order = [(arm.model_args["defense"], task) for arm in arms for task in tasks]
    logs.sort(key=lambda log: order.index((log.eval.model_args["defense"], log.eval.task)))
    return [local_path(log.location) for log in logs]


def _arm(
    model: str,
    defense: str,
    artifact: str | Path | None,
    batch_size: int | None,
    args: dict[str, Any],
) -> Model:
    """Inspect's model for one arm. Its recorded arguments are those that change answers."""
    args["defense"] = defense
    if artifact is not None:
        args["artifact"] = str(artifact)
    try:
        arm = get_model(f"safesight/{model}", memoize=False, batch_size=batch_size, **args)
    except Exception as error:
        if isinstance(error.__cause__, SafesightError):
            raise error.__cause__ from None  # the provider has put it into Inspect's words
        raise
    arm.model_args = args
    return arm


def _run(
    folder: Path, tasks: list[str], arms: list[Model], task_args: dict[str, Any]
) -> tuple[bool, list[EvalLog]]:
    try:
        return eval_set(
            tasks,
            log_dir=str(folder),
            model=arms,
            task_args={name: value for name, value in task_args.items() if value is not None},
            # One attempt: what fails once in a local model fails again.
            retry_immediate=False,
            retry_attempts=1,
            # One task at a time: tasks side by side would only trade places on one model.
            max_tasks=1,
            log_dir_allow_dirty=True,
            log_buffer=_LOG_BUFFER,
            # Bookkeeping that costs as much as a small model's answer, for a view of a run
            # while it runs; the finished log is the same without it.
            log_realtime=False,
            score_display=False,
            display="none",
            log_level="error",
            ctl_server=False,
        )
    except OSError as error:
        raise _storage_error(folder, error) from error


def _error(session: Session, logs: list[EvalLog], folder: Path) -> Exception:
    """Why not all tasks finished: the user error if there was one, else what Inspect kept."""
    if session.errors:
        return session.errors[0]
    failures = [log.error for log in logs if log.error is not None]
    message = failures[0].message if failures else "a task was cancelled"
    if os.strerror(errno.ENOSPC) in message:
        return StorageError(
            f"{folder} has no space left. Free some, then run the same command again to go on."
        )
    detail = f"\n{failures[0].traceback}" if failures else ""
    return RuntimeError(f"The evaluation did not finish: {message}{detail}")


def _writable(folder: Path) -> Path:
    """The folder, made if need be.

    Raises:
        StorageError: it cannot be made or written, or there is no space.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * _ROOM)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _storage_error(folder, error) from error
    return folder


def _storage_error(folder: Path, error: OSError) -> SafesightError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{folder} has no space left. Free some, or choose another --log-dir.")
    return StorageError(
        f"Logs cannot be written to {folder} ({error.strerror or error}). Choose another --log-dir."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Inspect prints its closing line on rich's global console; ours is another one."""
    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


@contextmanager
def _frozen_heap() -> Iterator[None]:
    """What is loaded now is not searched for garbage while the run lasts.

    Every sample makes thousands of small objects, so the collector runs often; walking through
    all of torch and transformers each time costs a quarter of the bookkeeping of a sample.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
