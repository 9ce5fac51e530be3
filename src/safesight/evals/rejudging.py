"""Judge saved answers again, by other judges, without generating anything.

Each judge adds a score of its own to the log, after the scores that it has. The first one stays the
default for `read_answers`. A log is replaced in one step, once a judge has read all its answers, so
a run that is stopped resumes with the next log or judge. A log with gradings that failed, by an
error or for want of time, is read again.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from inspect_ai import score_async
from inspect_ai.log import (
    EvalLog,
    read_eval_log,
    read_eval_log_samples_by_id,
    write_eval_log,
)
from inspect_ai.model import get_model
from inspect_ai.scorer import Score

from safesight.errors import SafesightError, StorageError, reason_of
from safesight.evals.answers import defense_of, judged_by, local_path
from safesight.evals.damaged import DamagedLog, reading
from safesight.evals.logs import finished
from safesight.evals.quiet import quiet
from safesight.evals.scorers import verdict
from safesight.evals.session import Session, listening
from safesight.grammar import load_judge
from safesight.judges.reading import refuse_if_all_failed
from safesight.types import VERDICTS

__all__ = ["Judged", "judge_logs"]


_PASSING = ("error", "timeout")
"""Failures that another attempt may not have."""


@dataclass(frozen=True)
class Judged:
    """What one judge found in one log."""

    log: str
    """Name of the file."""
    task: str
    defense: str
    judge: str
    version: str
    known: bool
    """Whether the log held these verdicts already."""
    verdicts: dict[str, int] = field(default_factory=dict)
    """Answers by verdict."""
    failures: dict[str, int] = field(default_factory=dict)
    """Answers that could not be graded, by the reason; all of them are invalid."""
    disagreed: int = 0
    """Answers about which the judges of a panel disagreed."""


def judge_logs(
    log_dir: str | Path,
    judges: Sequence[str],
    *,
    on_total: Callable[[int], None] = lambda total: None,
    on_answer: Callable[[], None] = lambda: None,
) -> list[Judged]:
    """Let judges read the answers of all finished runs in a folder.

    Args:
        log_dir: Where `safesight eval` or `inspect eval` wrote its logs.
        judges: Judges by name, with their arguments.
        on_total: Called with the number of answers to read, before the first.
        on_answer: Called after each.

    Returns:
        What each judge found in each log, also in logs that it had read before.

    Raises:
        SafesightError: there is no such folder, judge or finished run; a judge cannot be used; a
            log cannot be written. What other judges and logs have given stays in the folder.
    """
    versions = {judge.name: judge.version for judge in map(load_judge, judges)}
    runs = finished(log_dir)
    todo = [
        (log, judge)
        for log in runs
        for judge, version in versions.items()
        if not _is_read(log, judge, version)
    ]
    on_total(sum(log.results.completed_samples for log, _ in todo if log.results))
    for log, judge in todo:
        _judge(local_path(log.location), judge, on_answer)
    read = {(local_path(log.location), judge) for log, judge in todo}
    return [
        _summary(read_eval_log(log.location, header_only=True), judge, version, read)
        for log in runs
        for judge, version in versions.items()
    ]


def _is_read(log: EvalLog, judge: str, version: str) -> bool:
    """Whether a judge of this version has read the log, and no grading failed.

    The first answer tells the version, without reading the others.
    """
    name = judged_by(log).get(judge)
    if name is None:
        return False
    found = _scores(log, name, only_first=True)
    if not found or (found[0].metadata or {}).get("judge") != f"{judge} {version}":
        return False
    return not any(_failed(_details(score)) for score in _scores(log, name))


def _details(score: Score) -> dict[str, Any]:
    return dict((score.metadata or {}).get("details") or {})


def _failed(details: object) -> bool:
    """Whether a judge, or one judge of a panel, could not be asked or took too long."""
    if not isinstance(details, Mapping):
        return False
    members = details.get("details")
    nested = members.values() if isinstance(members, Mapping) else ()
    return details.get("failure") in _PASSING or any(map(_failed, nested))


def _scores(log: EvalLog, name: str, *, only_first: bool = False) -> list[Score]:
    ids = (log.eval.dataset.sample_ids or [])[: 1 if only_first else None]
    unread = {"attachments", "events", "events_data", "messages", "store", "timelines"}
    try:
        with reading():
            samples = read_eval_log_samples_by_id(
                log.location, [(id, 1) for id in ids], exclude_fields=unread, concurrency=1
            )
    except DamagedLog as error:
        raise _unreadable(local_path(log.location), error) from error
    every = [sample.scores or {} for sample in samples]
    return [scores[name] for scores in every if name in scores]


def _judge(path: Path, judge: str, on_answer: Callable[[], None]) -> None:
    """Add the verdicts of a judge to a log."""
    try:
        with reading():
            log = read_eval_log(str(path))
    except DamagedLog as error:
        raise _unreadable(path, error) from error
    session = Session(on_answer=on_answer)
    with listening(session), quiet(), _first_error(session):
        # No model is loaded: "none" is Inspect's name for that.
        scored = anyio.run(_scored, log, judge)
    name = judged_by(scored)[judge]
    scores = [sample.scores[name] for sample in scored.samples or () if sample.scores]
    refuse_if_all_failed(judge, list(map(_details, scores)))
    _write(scored, path)


async def _scored(log: EvalLog, judge: str) -> EvalLog:
    return await score_async(
        log,
        [verdict(judge)],
        model=get_model("none"),
        action="append",
        display="none",
        copy=False,
    )


@contextmanager
def _first_error(session: Session) -> Iterator[None]:
    """Raise the error that the user can fix, whatever tasks around it made of it."""
    try:
        yield
    except BaseException:
        if session.errors:
            raise session.errors[0] from None
        raise


def _write(log: EvalLog, path: Path) -> None:
    """Replace a log in one step."""
    beside = path.with_name(f".{secrets.token_hex(4)}-judged")
    try:
        try:
            write_eval_log(log, str(beside), format="eval" if path.suffix == ".eval" else "json")
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path} could not be written ({reason_of(error)}). Make room there, and run the same "
            "command again."
        ) from error


def _summary(log: EvalLog, judge: str, version: str, read: set[tuple[Path, str]]) -> Judged:
    scores = _scores(log, judged_by(log)[judge])
    details = list(map(_details, scores))
    counts = Counter(str(score.value) for score in scores)
    failures = Counter(str(each["failure"]) for each in details if "failure" in each)
    return Judged(
        log=local_path(log.location).name,
        task=log.eval.task,
        defense=defense_of(log),
        judge=judge,
        version=version,
        known=(local_path(log.location), judge) not in read,
        verdicts={verdict: counts[verdict] for verdict in VERDICTS},
        failures=dict(failures),
        disagreed=sum(len(set(each.get("members", {}).values())) > 1 for each in details),
    )


def _unreadable(path: Path, error: DamagedLog) -> SafesightError:
    return StorageError(
        f"The answers in {path} cannot be read ({error}). Move the log away, and run the "
        "evaluation again."
    )
