"""An evaluation by several processes: the part of each, and all parts put together.

Each process answers its part of the samples into a folder of its own, `parts/RANK` in that of the
run. When all have finished, `join` puts the answers of each cell into one unfinished log, which
the first process finishes like that of a run that was stopped. So the folder ends up as it does
after a run in one process, and a run may be resumed by any number of them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.log import (
    EvalLog,
    EvalSampleSummary,
    list_eval_logs,
    read_eval_log,
    read_eval_log_sample_summaries,
)

from safesight import ranks
from safesight.errors import StorageError, reason_of
from safesight.evals.answers import local_path
from safesight.evals.damaged import DamagedLog, reading
from safesight.evals.logs import MARK, unfit

__all__ = ["Part", "join", "part_folder"]

_FOLDER = "parts"

_Cell = tuple[str, str]
"""The name of a task, and its version, which covers the samples and the arm."""


def part_folder(folder: Path) -> Path:
    """Where this process writes its answers."""
    return folder / _FOLDER / str(ranks.place().index)


@dataclass(frozen=True)
class Part:
    """The part of each task that this process answers.

    Which samples these are does not depend on what is answered already, or on batches.
    """

    answered: dict[_Cell, Set[str]] = field(default_factory=dict)
    """Ids of the samples that no process needs to ask."""

    @classmethod
    def of_run(cls, folder: Path, task_args: dict[str, Any], models: Sequence[Any]) -> Part:
        """What is left to do in a folder.

        Args:
            folder: That of the run.
            task_args: Arguments of its tasks; logs with other arguments do not count.
            models: Arguments of its models, likewise.
        """
        found: dict[_Cell, set[str]] = defaultdict(set)
        for log in _readable(folder):
            if log.eval.task_args_passed != task_args or log.eval.model_args not in models:
                continue
            if not _is_part(log) and not log.invalidated:
                found[_cell(log)] |= {str(each.id) for each in _summaries(log) if not each.error}
        return cls(dict(found))

    def narrow(self, task: Task) -> None:
        """Leave in a task what this process has to ask, which may be nothing."""
        known = self.answered.get((task.name, str(task.version)), set())
        left = [each for each in ranks.mine(list(task.dataset)) if str(each.id) not in known]
        # Set afterwards, because Inspect refuses to make a task without samples.
        task.dataset = MemoryDataset(left, name=task.dataset.name)
        here = ranks.place()
        task.metadata = {**(task.metadata or {}), MARK: [here.index, here.count]}


def join(folder: Path) -> None:
    """Put the answers of all parts into unfinished logs of the run, and remove the parts.

    Raises:
        StorageError: a log cannot be written. Every answer then stays where it is.
    """
    parts = folder / _FOLDER
    if not parts.is_dir():
        return
    same: dict[str, list[EvalLog]] = defaultdict(list)
    for log in _readable(folder):
        same[_run_of(log)].append(log)
    for logs in same.values():
        finished = any(unfit(log) is None for log in logs)
        if not finished and any(map(_is_part, logs)):
            _join_cell(folder, [log for log in logs if not log.invalidated])
    for damaged in parts.rglob("*.damaged"):
        os.replace(damaged, folder / damaged.name)
    shutil.rmtree(parts)


def _join_cell(folder: Path, logs: list[EvalLog]) -> None:
    """One log in place of the parts of a cell, and of what earlier runs left of it."""
    kept = [local_path(log.location) for log in logs if not _is_part(log)]
    # The parts first: what they hold was asked later.
    sources = sorted(logs, key=lambda log: (not _is_part(log), log.location))
    target = folder / local_path(sources[-1].location).name
    beside = folder / f".{secrets.token_hex(4)}-joined"
    try:
        try:
            _write_joined(beside, sources)
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)
        for path in kept:
            if path != target:
                path.unlink()
    except OSError as error:
        raise StorageError(
            f"{target} could not be written ({reason_of(error)}). Make room there, and run the "
            "same command again."
        ) from error


def _write_joined(path: Path, sources: Sequence[EvalLog]) -> None:
    """A stopped log with the answers of all sources, in the layout of Inspect's archives.

    Answers are copied one by one: with their pictures, those of a cell may not fit into memory.
    """
    last = sources[-1]
    about = {key: value for key, value in (last.eval.metadata or {}).items() if key != MARK}
    spec = last.eval.model_copy(update={"metadata": about})
    header = last.model_copy(update={"eval": spec, "status": "cancelled", "results": None})
    start = {"version": header.version, "eval": _plain(spec), "plan": _plain(header.plan)}
    taken: dict[str, EvalSampleSummary] = {}
    with ZipFile(path, "w") as joined:
        joined.writestr("_journal/start.json", json.dumps(start))
        for log in sources:
            for summary, info, content in _answers(log, taken):
                joined.writestr(info, content)
                taken[str(summary.id)] = summary
        joined.writestr("summaries.json", json.dumps([_plain(each) for each in taken.values()]))
        joined.writestr("header.json", json.dumps(_plain(header)))


def _answers(
    log: EvalLog, taken: Mapping[str, object]
) -> Iterator[tuple[EvalSampleSummary, ZipInfo, bytes]]:
    """The answers of a log that are not taken yet, and can be read."""
    with ZipFile(local_path(log.location)) as archive:
        for summary in _summaries(log):
            if summary.error or str(summary.id) in taken:
                continue
            try:
                with reading():
                    info = archive.getinfo(f"samples/{summary.id}_epoch_{summary.epoch}.json")
                    content = archive.read(info)
            except DamagedLog:
                continue  # it is asked again
            yield summary, info, content


def _plain(record: Any) -> Any:
    unread = {"samples", "location", "reductions", "etag"}
    return record.model_dump(mode="json", exclude_none=True, exclude=unread)


def _readable(folder: Path) -> Iterator[EvalLog]:
    """The headers of all logs in Inspect's archive format that can be read."""
    for info in list_eval_logs(str(folder.resolve()), formats=["eval"]):
        try:
            with reading():
                log = read_eval_log(info, header_only=True)
        except DamagedLog:
            continue
        yield log


def _summaries(log: EvalLog) -> list[EvalSampleSummary]:
    try:
        with reading():
            return read_eval_log_sample_summaries(log.location)
    except DamagedLog:
        return []


def _is_part(log: EvalLog) -> bool:
    return MARK in (log.eval.metadata or {})


def _cell(log: EvalLog) -> _Cell:
    return log.eval.task, str(log.eval.task_version)


def _run_of(log: EvalLog) -> str:
    """Equal for logs whose answers Inspect would reuse for each other."""
    spec = log.eval
    parts = [*_cell(log), spec.model, spec.model_args, spec.task_args_passed]
    return json.dumps(parts, sort_keys=True, default=str)
