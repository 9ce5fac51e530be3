"""Read answers back from a folder of Inspect logs.

Only complete runs count. A run may be judged by several judges; its first one counts, unless
another is asked for. A log that was interrupted, that holds a failed sample or that was
invalidated is skipped entirely, and `skipped` says why. If a cell was run more than once (with
another seed or artifact), the newest run counts, by the time in its log. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from inspect_ai.log import (
    EvalLog,
    EvalSample,
    list_eval_logs,
    read_eval_log,
    read_eval_log_samples_by_id,
)

from safesight.errors import InputError, MissingExtraError, PluginError, StorageError
from safesight.evals.answers import (
    Answer,
    answer_of,
    defense_of,
    judged_by,
    local_path,
    model_of,
    score_of,
)
from safesight.evals.damaged import DamagedLog, reading
from safesight.grammar import load_judge

__all__ = ["MARK", "finished", "read_answers", "set_aside_torn", "skipped", "unfit"]

MARK = "part"
"""In the metadata of a log: the rank that wrote it, of how many. See `parts`."""

# Fields an answer does not need: they hold the pictures and the transcript.
_UNREAD = {"attachments", "events", "events_data", "messages", "store", "timelines"}


def read_answers(log_dir: str | Path, judge: str | None = None) -> list[Answer]:
    """All answers of the complete runs in a folder, in the order of the runs.

    Args:
        log_dir: The folder.
        judge: The judge that labels the answers; None for each run's first judge.

    Raises:
        StorageError: there is no such folder, or no complete run in it.
        UnknownNameError: there is none that this judge read, and no such judge.
        InputError: there is none that this judge read.
    """
    runs = finished(log_dir)
    read = [log for log in runs if score_of(log, judge) is not None]
    if not read:
        _check_known(judge)
        known = dict.fromkeys(name for log in runs for name in judged_by(log))
        raise InputError(
            f"No run in {log_dir} was judged by {judge!r}, only by {', '.join(known)}. "
            f"Run: safesight judge {log_dir} --judge {judge}"
        )
    return [answer for log in read for answer in _answers(log, judge)]


def _check_known(judge: str | None) -> None:
    """Refuse a misspelt judge, or one of a panel; whether it could be used here is another matter.

    Called only where no log has the judge: logs may be of one that is not installed here.
    """
    with suppress(InputError, MissingExtraError, PluginError):
        if judge is not None:
            load_judge(judge)


def finished(log_dir: str | Path) -> list[EvalLog]:
    """Headers of the complete runs in a folder, oldest first.

    Raises:
        StorageError: there is no such folder, or no complete run in it.
    """
    runs, left_out = _sorted_logs(Path(log_dir))
    if not runs:
        raise StorageError(
            f"There is no finished evaluation in {log_dir}. "
            + (f"{left_out[0]} " if left_out else "")
            + f"Run: safesight eval --log-dir {log_dir}"
        )
    return runs


def skipped(log_dir: str | Path, judge: str | None = None) -> list[str]:
    """One sentence for every log in the folder that `read_answers` skips.

    Raises:
        StorageError: there is no such folder.
    """
    runs, left_out = _sorted_logs(Path(log_dir))
    unread = [log for log in runs if score_of(log, judge) is None]
    return [*left_out, *(f"{_name(log)} was not judged by {judge}." for log in unread)]


def set_aside_torn(log_dir: Path) -> list[Path]:
    """Rename unreadable logs to `*.damaged`, so that a run can resume in the folder.

    A process that is killed while creating a log leaves an empty one, and Inspect reads all
    logs in a folder before it starts.
    """
    renamed: list[Path] = []
    for info in list_eval_logs(str(log_dir.resolve())):
        try:
            with reading():
                read_eval_log(info, header_only=True)
        except DamagedLog:
            torn = local_path(info.name)
            renamed.append(torn.rename(torn.with_name(f"{torn.name}.damaged")))
    return renamed


def _sorted_logs(folder: Path) -> tuple[list[EvalLog], list[str]]:
    """Headers of the logs that count, oldest first, and why the others are skipped."""
    if not folder.is_dir():
        raise StorageError(f"There is no folder {folder}. Run: safesight eval --log-dir {folder}")
    fit, left_out = _fit_logs(folder)
    newest: dict[tuple[str, str, str], EvalLog] = {}
    for log in fit:
        cell = (model_of(log), defense_of(log), log.eval.task)
        if cell in newest:
            older = newest.pop(cell)
            _refuse_two_versions(older, log)
            left_out.append(f"{_name(older)} is superseded by {_name(log)}.")
        newest[cell] = log
    return list(newest.values()), left_out


def _fit_logs(folder: Path) -> tuple[list[EvalLog], list[str]]:
    """Headers of the logs that count, oldest first, and why the others do not.

    A run that was stopped and then resumed keeps its id, so the log it left is no news.
    """
    fit: list[EvalLog] = []
    left_out: list[str] = []
    stopped: dict[str, str] = {}  # the id of the task, by the sentence about its log
    for info in sorted(list_eval_logs(str(folder.resolve())), key=lambda info: info.name):
        name = Path(info.name).name
        try:
            with reading():
                log = read_eval_log(info, header_only=True)
        except DamagedLog as error:
            left_out.append(f"{name} cannot be read ({error}).")
            continue
        reason = unfit(log)
        if reason is None:
            fit.append(log)
            continue
        left_out.append(f"{name} {reason}.")
        if log.status != "success":
            stopped[left_out[-1]] = log.eval.task_id
    resumed = {log.eval.task_id for log in fit}
    remaining = [each for each in left_out if stopped.get(each) not in resumed]
    return sorted(fit, key=_age), remaining


def _age(log: EvalLog) -> tuple[str, str, str, int, str, int]:
    """Sorts runs from the oldest to the newest by what they say themselves.

    The times of the files say nothing: copying a folder changes them. Inspect's own times are in
    seconds, and a small model's runs may be shorter.
    """
    times = log.eval.created, log.stats.started_at, log.stats.completed_at
    begun = (log.eval.metadata or {}).get("begun")
    return *times, begun if isinstance(begun, int) else 0, log.eval.eval_id, _scores(log)


def _refuse_two_versions(one: EvalLog, other: EvalLog) -> None:
    """Refuse a run that is there twice with other scores: neither copy says which is newer."""
    same_run = one.eval.eval_id == other.eval.eval_id and _scores(one) == _scores(other)
    if same_run and one.results != other.results:
        raise StorageError(
            f"{_name(one)} and {_name(other)} are the same run with other scores. Keep one of "
            "them in the folder."
        )


def _scores(log: EvalLog) -> int:
    """How often a run was scored."""
    return len(log.results.scores) if log.results else 0


def _name(log: EvalLog) -> str:
    return local_path(log.location).name


def unfit(log: EvalLog) -> str | None:
    """Why a log does not count, to follow its name in a sentence; None if it counts."""
    about = log.eval.metadata or {}
    if MARK in about:
        return "holds the answers of one of several processes; run the same command again to resume"
    if log.status != "success":
        return f"is not finished (status {log.status}); run the same command again to resume"
    if log.invalidated:
        return "was invalidated"
    if "benchmark" not in about:
        return "is not the log of a safesight task"
    if log.eval.model.startswith("safesight/") and not about.get("defense"):
        return "does not say which arm answered"
    if not all(name.isprintable() for name in (model_of(log), defense_of(log), log.eval.task)):
        return "has a name with unprintable characters"
    if score_of(log) is None or log.results is None:
        return "was not scored by the scorer safesight/verdict"
    if log.results.completed_samples < log.results.total_samples:
        missing = log.results.total_samples - log.results.completed_samples
        return f"lacks {missing} of {log.results.total_samples} answers"
    return None


def _answers(log: EvalLog, judge: str | None) -> Iterator[Answer]:
    path = local_path(log.location)
    if (log.eval.config.epochs or 1) > 1:
        raise StorageError(
            f"{path} asked every sample {log.eval.config.epochs} times, but answers are "
            "compared one to one. Run it again without epochs."
        )
    identity = (log.eval.metadata or {}).get("identity")
    for sample in _samples(log, path):
        answer = answer_of(log, sample, judge)
        if identity is not None and answer.metadata.get("identity") != identity:
            raise StorageError(
                f"Sample {sample.id!r} in {path} was answered by another model or "
                "artifact than the rest. Delete that log and run the evaluation again."
            )
        yield answer


def _samples(log: EvalLog, path: Path) -> list[EvalSample]:
    """All samples of a complete run.

    Raises:
        StorageError: they cannot be read, or are not those that the header names.
    """
    ids = log.eval.dataset.sample_ids or []
    total = log.results.completed_samples if log.results else 0
    if len(set(ids)) != total:
        raise StorageError(
            f"{path} names {len(set(ids))} samples and claims {total} answers. The log was "
            "changed: move it away, and run the evaluation again."
        )
    try:
        # One at a time: of several, those still open when one fails would report it on the screen.
        with reading():
            return read_eval_log_samples_by_id(
                log.location, [(id, 1) for id in ids], exclude_fields=_UNREAD, concurrency=1
            )
    except DamagedLog as error:
        raise StorageError(
            f"The answers in {path} cannot be read ({error}). Move the log away, and run the "
            "evaluation again."
        ) from error
