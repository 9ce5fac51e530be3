"""Run an evaluation from Python: every arm on every task, into a folder of Inspect logs.

Built on Inspect's `eval_set`, so runs can be resumed: answers in the logs are kept, missing ones
are generated. Inspect's own output is silenced; a progress bar is shown instead. `logs` reads
the answers back. Of several processes, each answers its part of the samples; see `parts`.
"""

from __future__ import annotations

import errno
import gc
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inspect_ai import Task, eval_set
from inspect_ai.log import EvalLog
from inspect_ai.model import GenerateConfig, Model, get_model

from safesight import ranks
from safesight.errors import InputError, PeerError, SafesightError, StorageError
from safesight.evals.answers import local_path
from safesight.evals.logs import MARK, set_aside_torn, unfit
from safesight.evals.parts import Part, join, part_folder
from safesight.evals.progress import Progress
from safesight.evals.quiet import quiet
from safesight.evals.session import Session, listening
from safesight.evals.tasks import registered
from safesight.files import UNWRITABLE
from safesight.hosting.arms import artifacts_for
from safesight.hosting.settings import check_temperature
from safesight.judges.scope import common_judge

if TYPE_CHECKING:
    from safesight.evals.endpoint import Endpoint
    from safesight.evals.provider import SafesightAPI

__all__ = ["run_eval"]

_ROOM = 1 << 20
"""Bytes of free space required before anything is loaded."""
_LOG_BUFFER = 16
"""Number of answers that may be lost, and are generated again, if the process is killed."""


def run_eval(
    model: str = "testbed",
    defenses: Sequence[str] = ("none",),
    tasks: Sequence[str] = ("image_harm", "over_refusal", "vqa"),
    *,
    log_dir: str | Path,
    limit: int | None = None,
    only: Sequence[str] = (),
    artifacts: Mapping[str, str | Path] | None = None,
    judge: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
    model_args: Mapping[str, Any] | None = None,
    endpoints: Mapping[str, Endpoint] | None = None,
    temperature: float = 0.0,
    max_tokens: int | None = None,
) -> list[Path]:
    """Run every arm on every task; an interrupted run resumes where it stopped.

    Called in each process that a launcher such as `torchrun` has started, it divides the samples
    among them. The number of processes may change when a run is resumed.

    Args:
        model: "testbed", a folder, or a hub id.
        defenses: Registered defenses; several on one model are joined by "+".
        tasks: Registered benchmarks; "vqa+prefill" is one under an attack.
        log_dir: Folder for the logs; runs of the same models and tasks share it.
        limit: Samples per task; None for each benchmark's default.
        only: Facts of the samples to keep, each "FACT=VALUE,VALUE"; all are kept without one.
        artifacts: Artifact folders, by defense; each arm uses those of its defenses.
        judge: A registered judge; None for the one that knows most about each task.
        batch_size: Maximum batch size.
        seed: Seed of the samples.
        progress: Show a progress bar.
        model_args: As for `VLM.load`, JSON values only: `dtype`, `device_map`, `revision`, ...
        endpoints: Where another engine answers, by arm; None to answer here.
        temperature: 0 for greedy answers; above, each is drawn with a seed of its own.
        max_tokens: The longest answer; None for the benchmark's, else the checkpoint's, else 256.

    Returns:
        One log per arm and task; `read_answers(log_dir)` reads them.

    Raises:
        SafesightError: an unknown name, a model or artifact that cannot be used, a folder
            that cannot be written, a bad sample or setting. Finished answers stay there.
        KeyboardInterrupt: the run was stopped, once a batch has ended. Finished answers stay.
    """
    unrecorded = {"batch_size": batch_size, "config": _config(temperature, max_tokens)}
    folder, places = _writable(Path(log_dir)), endpoints or {}
    judge = common_judge(model, tasks, judge)  # named, as in older logs, so that these are resumed
    task_args = {"limit": limit, "seed": seed, "judge": judge, "only": [*only] or None}
    names = [registered(task) for task in tasks]
    arms = [
        _arm(model, name, (artifacts or {}, model_args or {}), unrecorded, places)
        for name in dict.fromkeys(defenses)
    ]
    given = {name: value for name, value in task_args.items() if value is not None}
    cells = _Cells(folder, names, arms, given, progress, places)
    return _by_ranks(cells) if ranks.place().count > 1 else _alone(cells)


@dataclass(frozen=True)
class _Cells:
    """Every arm on every task, and where the logs go."""

    folder: Path
    names: list[str]
    """The tasks, as Inspect knows them."""
    arms: list[Model]
    task_args: dict[str, Any]
    progress: bool
    endpoints: Mapping[str, Endpoint]
    """Where another engine answers, by arm."""
    part: Part | None = None
    """The samples of this process, if others answer the rest."""
    made: dict[str, Any] = field(default_factory=dict)
    """See `Session.made`."""

    def in_order(self, logs: list[EvalLog]) -> list[Path]:
        """The files of the logs, arm by arm."""
        order = [(arm.model_args["defense"], name) for arm in self.arms for name in self.names]
        logs.sort(key=lambda log: order.index((log.eval.model_args["defense"], _name(log))))
        return [local_path(log.location) for log in logs]


def _name(log: EvalLog) -> str:
    return f"safesight/{log.eval.task}"


def _tidy(folder: Path) -> None:
    """Make logs that an earlier run left ready to be resumed."""
    set_aside_torn(folder)
    join(folder)


def _alone(cells: _Cells) -> list[Path]:
    _tidy(cells.folder)
    return cells.in_order(_answered(cells, cells.folder))


def _by_ranks(cells: _Cells) -> list[Path]:
    """The answers of each process, put together by the first one.

    That one answers what is missing then, if anything is.
    """
    folder = cells.folder
    try:
        ranks.check_shared(folder)
        if ranks.first():
            _tidy(folder)
        ranks.meet()
        part = Part.of_run(folder, cells.task_args, [arm.model_args for arm in cells.arms])
        _answered(replace(cells, part=part), part_folder(folder))
        ranks.meet()
        logs: list[Path] = []
        if ranks.first():
            join(folder)
            logs = cells.in_order(_answered(cells, folder))
        return ranks.agreed(logs)
    except PeerError as error:
        raise PeerError(f"{error} {_resume(folder)}") from error


def _answered(cells: _Cells, folder: Path) -> list[EvalLog]:
    """Answer what is not answered in the folder; one log per cell."""
    label = "answers" if cells.part is None else f"answers of one of {ranks.place().count} ranks"
    with (
        Progress(folder, cells.task_args, visible=cells.progress, label=label) as shown,
        quiet(),
        _frozen_heap(),
    ):

        def on_task(task: Task) -> None:
            if cells.part is not None:
                cells.part.narrow(task)
            shown.add_task(task.name, task.version, len(task.dataset))

        session = Session(on_task=on_task, on_answer=shown.advance, made=cells.made)
        logs: list[EvalLog] = []
        for server, arms in _by_server(cells):
            with server, listening(session), _idle_after(arms):
                logs += _run(replace(cells, arms=arms), folder)
            if session.errors:
                break
        if session.errors or _finished(logs) < len(cells.arms) * len(cells.names):
            raise _error(session, logs, cells.folder)
        shown.finish()
    return logs


def _arm(
    model: str,
    defense: str,
    given: tuple[Mapping[str, str | Path], Mapping[str, Any]],
    unrecorded: Mapping[str, Any],
    places: Mapping[str, Endpoint],
) -> Model:
    """Inspect's model for one arm. The log records only the arguments that change answers."""
    artifacts, args = given[0], dict(given[1])
    args["defense"] = defense
    folders = [str(folder) for _, folder in sorted(artifacts_for(defense, artifacts).items())]
    if folders:  # one alone as a string: what was recorded in a log stays what it was
        args["artifact"] = folders[0] if len(folders) == 1 else folders
    try:
        more = {**unrecorded, "endpoint": places.get(defense), **args}
        arm = get_model(f"safesight/{model}", memoize=False, **more)
    except Exception as error:
        if isinstance(error.__cause__, SafesightError):
            raise error.__cause__ from None  # the provider wrapped it for Inspect
        raise
    arm.model_args = args
    return arm


def _config(temperature: float, max_tokens: int | None) -> GenerateConfig:
    """The settings of the model; none for greedy answers, so that older logs are resumed.

    Raises:
        InputError: such a temperature or length is not possible.
    """
    check_temperature(temperature)
    if max_tokens is not None and max_tokens < 1:
        raise InputError(f"An answer of {max_tokens} tokens is not possible. Use 1 or more.")
    return GenerateConfig(temperature=temperature or None, max_tokens=max_tokens)


def _by_server(cells: _Cells) -> Iterator[tuple[AbstractContextManager[None], list[Model]]]:
    """The arms that one server answers, and what it runs in; one server at a time."""
    groups: dict[int, list[Model]] = {}
    servers = {id(each.server): each.server for each in cells.endpoints.values()}
    for arm in cells.arms:
        endpoint = cells.endpoints.get(arm.model_args["defense"])
        groups.setdefault(0 if endpoint is None else id(endpoint.server), []).append(arm)
    for key, some in groups.items():
        yield servers[key].running() if key in servers else nullcontext(), some


def _run(cells: _Cells, folder: Path) -> list[EvalLog]:
    """The log of every task that was begun, finished or not."""
    try:
        _, logs = eval_set(
            cells.names,
            log_dir=str(folder),
            model=cells.arms,
            task_args=cells.task_args,
            # Parts are put together in this format only.
            log_format=None if cells.part is None else "eval",
            # One attempt: an error in a local model would only repeat.
            retry_immediate=False,
            retry_attempts=1,
            # One task at a time: parallel tasks would only compete for the one model.
            max_tasks=1,
            log_dir_allow_dirty=True,
            log_buffer=_LOG_BUFFER,
            # No live view of the run: its bookkeeping costs as much as a small model's answer,
            # and the finished log is the same without it.
            log_realtime=False,
            score_display=False,
            display="none",
            log_level="error",
            ctl_server=False,
        )
    except OSError as error:
        raise _unwritten(cells.folder, error.strerror) from error
    except KeyboardInterrupt:
        raise _stopped(cells.folder) from None
    return logs


@contextmanager
def _idle_after(arms: list[Model]) -> Iterator[None]:
    """Afterwards no batch runs and no defense is attached, however the block ends."""
    try:
        yield
    finally:
        for arm in arms:
            cast("SafesightAPI", arm.api).host.batcher.cancel()


def _finished(logs: list[EvalLog]) -> int:
    """The number of cells that count.

    Stopped between two tasks, Inspect returns the logs that it has and calls that a success.
    """
    return sum(_amiss(log) is None for log in logs)


def _amiss(log: EvalLog) -> str | None:
    """Why a log does not count, or a part of one is not finished; see `unfit`."""
    if MARK in (log.eval.metadata or {}):
        return None if log.status == "success" else "is not finished"
    return unfit(log)


def _error(session: Session, logs: list[EvalLog], folder: Path) -> BaseException:
    """Why not all tasks finished: the user error if there was one, else the one Inspect logged."""
    if session.errors:
        return session.errors[0]
    failures = [log.error for log in logs if log.error is not None]
    if not failures:
        unusable = [log for log in logs if log.status == "success" and _amiss(log) is not None]
        return _unusable(unusable[0]) if unusable else _stopped(folder)
    message = failures[0].message
    for refusal in session.refused:
        if repr(refusal) in message:
            return refusal
    for code in (*UNWRITABLE, errno.ENOENT):
        if os.strerror(code) in message:
            return _unwritten(folder, os.strerror(code))
    return RuntimeError(f"The evaluation did not finish: {message}\n{failures[0].traceback}")


def _unusable(log: EvalLog) -> StorageError:
    return StorageError(
        f"{local_path(log.location)} {unfit(log)}. Remove it, then run the same command again."
    )


def _stopped(folder: Path) -> KeyboardInterrupt:
    return KeyboardInterrupt(_resume(folder))


def _resume(folder: Path) -> str:
    return f"Finished answers are in {folder}. Run the same command again to resume."


def _writable(folder: Path) -> Path:
    """The folder, created if needed.

    Raises:
        StorageError: it cannot be created or written, or there is no space.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * _ROOM)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritten(folder, error.strerror) from error
    return folder


def _unwritten(folder: Path, reason: str | None) -> StorageError:
    return StorageError(
        f"Logs cannot be written to {folder} ({reason}). Choose another --log-dir, or make room "
        "there; the same command then resumes from what was written."
    )


@contextmanager
def _frozen_heap() -> Iterator[None]:
    """Exclude everything loaded so far from garbage collection during the run.

    Every sample creates thousands of small objects, so the collector runs often. Scanning all of
    torch and transformers each time takes a quarter of a sample's bookkeeping time.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
