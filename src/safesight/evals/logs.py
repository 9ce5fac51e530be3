"""Read answers back from a folder of Inspect logs.

Only complete runs count. A log that was interrupted, that holds a failed sample or that was
invalidated is skipped entirely, and `skipped` says why. If a cell was run more than once (with
another seed or artifact), the newest run counts. Nothing is judged here.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlparse

from inspect_ai.log import (
    EvalLog,
    EvalSample,
    list_eval_logs,
    read_eval_log,
    read_eval_log_samples_by_id,
)

from safesight.errors import StorageError
from safesight.types import VERDICTS, Label, Verdict

__all__ = ["UNREADABLE", "Answer", "local_path", "read_answers", "set_aside_torn", "skipped"]

UNREADABLE = (OSError, ValueError, KeyError, zipfile.BadZipFile)
"""The exceptions Inspect raises for a truncated log or a file that is not a log."""

# Fields an answer does not need: they hold the pictures and the transcript.
_UNREAD = {"attachments", "events", "events_data", "messages", "store", "timelines"}


@dataclass(frozen=True)
class Answer:
    """One judged answer of one arm to one sample."""

    defense: str
    task: str
    sample_id: str
    verdict: Verdict
    correct: bool
    """Whether the judge counts it as a right answer."""
    label: Label
    """The label of the request."""
    answer: str
    """With several shots, the answer to the deciding one."""
    question: str
    """With several shots, the first."""
    target: str
    judge: str
    """Name and version."""
    model: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The sample's facts."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Identity, decisions of the detectors, tokens, seconds, and the path of the log."""


def read_answers(log_dir: str | Path) -> list[Answer]:
    """All answers of the complete runs in a folder, in the order of the runs.

    Raises:
        StorageError: there is no such folder, or no complete run in it.
    """
    finished, left_out = _sorted_logs(Path(log_dir))
    if not finished:
        raise StorageError(
            f"There is no finished evaluation in {log_dir}. "
            + (f"{left_out[0]} " if left_out else "")
            + f"Run: safesight eval --log-dir {log_dir}"
        )
    return [answer for log in finished for answer in _answers(log)]


def skipped(log_dir: str | Path) -> list[str]:
    """One sentence for every log in the folder that `read_answers` skips.

    Raises:
        StorageError: there is no such folder.
    """
    return _sorted_logs(Path(log_dir))[1]


def set_aside_torn(log_dir: Path) -> list[Path]:
    """Rename unreadable logs to `*.damaged`, so that a run can resume in the folder.

    A process that is killed while creating a log leaves an empty one, and Inspect reads all
    logs in a folder before it starts.
    """
    renamed: list[Path] = []
    for info in list_eval_logs(str(log_dir.resolve())):
        try:
            read_eval_log(info, header_only=True)
        except UNREADABLE:
            torn = local_path(info.name)
            renamed.append(torn.rename(torn.with_name(f"{torn.name}.damaged")))
    return renamed


def local_path(location: str) -> Path:
    """The path of a log, which Inspect gives as a path or a file:// URL."""
    return Path(unquote(urlparse(location).path) if location.startswith("file:") else location)


def _sorted_logs(folder: Path) -> tuple[list[EvalLog], list[str]]:
    """Headers of the logs that count, oldest first, and why the others are skipped."""
    if not folder.is_dir():
        raise StorageError(f"There is no folder {folder}. Run: safesight eval --log-dir {folder}")
    newest: dict[tuple[str, str, str], EvalLog] = {}
    left_out: list[str] = []
    unfinished: dict[str, str] = {}  # the id of the task, by the sentence about its log
    resumed: set[str] = set()
    infos = list_eval_logs(str(folder.resolve()), descending=False)
    for info in infos:
        name = Path(info.name).name
        try:
            log = read_eval_log(info, header_only=True)
        except UNREADABLE as error:
            left_out.append(f"{name} cannot be read ({error}).")
            continue
        reason = unfit(log)
        if reason is not None:
            left_out.append(f"{name} {reason}.")
            if log.status != "success":
                unfinished[left_out[-1]] = log.eval.task_id
            continue
        resumed.add(log.eval.task_id)  # a resumed run keeps the id
        cell = (_model(log), _defense(log), log.eval.task)
        if cell in newest:
            older = Path(newest.pop(cell).location).name
            left_out.append(f"{older} is superseded by {name}.")
        newest[cell] = log
    remaining = [each for each in left_out if unfinished.get(each) not in resumed]
    return list(newest.values()), remaining


def unfit(log: EvalLog) -> str | None:
    """Why a log does not count, to follow its name in a sentence; None if it counts."""
    if log.status != "success":
        return f"is not finished (status {log.status}); run the same command again to resume"
    if log.invalidated:
        return "was invalidated"
    if log.results is None or not any(score.name == "verdict" for score in log.results.scores):
        return "was not scored by the scorer safesight/verdict"
    if log.results.completed_samples < log.results.total_samples:
        missing = log.results.total_samples - log.results.completed_samples
        return f"lacks {missing} of {log.results.total_samples} answers"
    return None


def _model(log: EvalLog) -> str:
    return str((log.eval.metadata or {}).get("model") or log.eval.model)


def _defense(log: EvalLog) -> str:
    return str((log.eval.metadata or {}).get("defense") or "none")


def _answers(log: EvalLog) -> Iterator[Answer]:
    ids = log.eval.dataset.sample_ids or []
    if (log.eval.config.epochs or 1) > 1:
        raise StorageError(
            f"{log.location} asked every sample {log.eval.config.epochs} times, but answers are "
            "compared one to one. Run it again without epochs."
        )
    identity = (log.eval.metadata or {}).get("identity")
    samples = read_eval_log_samples_by_id(
        log.location, [(id, 1) for id in ids], exclude_fields=_UNREAD
    )
    for sample in samples:
        answer = _answer(log, sample)
        if identity is not None and answer.metadata.get("identity") != identity:
            raise StorageError(
                f"Sample {sample.id!r} in {log.location} was answered by another model or "
                "artifact than the rest. Delete that log and run the evaluation again."
            )
        yield answer


def _answer(log: EvalLog, sample: EvalSample) -> Answer:
    score = (sample.scores or {})["verdict"]
    judged = score.metadata or {}
    assert score.value in VERDICTS
    usage = sample.output.usage
    return Answer(
        defense=_defense(log),
        task=log.eval.task,
        sample_id=str(sample.id),
        verdict=score.value,
        correct=bool(judged.get("correct")),
        label=cast(Label, sample.metadata.get("label", "benign")),
        answer=score.answer or sample.output.completion,
        question=str(sample.metadata.get("question", "")),
        target=sample.target if isinstance(sample.target, str) else ", ".join(sample.target),
        judge=str(judged.get("judge", "")),
        model=_model(log),
        facts=sample.metadata.get("facts") or {},
        metadata={
            **(sample.output.metadata or {}),
            "input_tokens": usage.input_tokens if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
            "model_identity": (log.eval.metadata or {}).get("model_identity"),
            "log": str(local_path(log.location)),
            **({"shots": judged["shots"]} if "shots" in judged else {}),
        },
    )
