"""The scorecard of a folder of logs.

Answers come from the logs through `evals`. What a log cannot hold (the defenses' overhead, the
duration of the run) is in `safesight.json` in the same folder, written by the command line after
an evaluation. A folder made with `inspect eval` has no such file, and its scorecard lacks these.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from safesight.compare.counting import scorecard
from safesight.compare.records import Overhead, Provenance, Scorecard
from safesight.compare.searches import search_curves
from safesight.fitting.facts import told
from safesight.grammar import task_parts
from safesight.records import Record, code_hash, read_record, versions_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from safesight.evals import Answer

__all__ = ["NOTES", "RunNotes", "Source", "read_notes", "scorecard_of"]

NOTES = "safesight.json"

_PACKAGES = ("safesight", "torch", "transformers", "inspect-ai", "scipy")


class Source(Record):
    """A file of somebody's own that a task asks."""

    source: str
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of columns in it, by the schema's names."""


class RunNotes(Record):
    """What `safesight eval` knows about a run that its logs do not hold."""

    model: str
    identity: str = ""
    """Hash of the model's config, weights and dtype."""
    device: str = ""
    seed: int = 0
    temperature: float = 0.0
    """0 for greedy answers."""
    max_tokens: int | None = None
    """The longest answer, if the run said so."""
    limit: int | None = None
    only: dict[str, list[str]] = Field(default_factory=dict)
    """Facts that chose the samples; empty for all."""
    judge: str = "exact"
    seconds: float = 0.0
    """Total wall time of the calls on this folder with these settings."""
    overhead: list[Overhead] = Field(default_factory=list)
    artifacts: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The card of each fitted defense."""
    data: dict[str, Source] = Field(default_factory=dict)
    """Files of one's own, by task: a report reads the pictures from them."""
    adaptive: list[str] = Field(default_factory=list)
    """Tasks of attacks that know a defense, and their controls."""
    remarks: list[str] = Field(default_factory=list)
    """What a reader of the numbers should know about the fits and the samples."""
    outside: dict[str, list[str]] = Field(default_factory=dict)
    """By detector, how prompts of the run are unlike those that set its threshold."""

    def same_run(self, other: RunNotes) -> bool:
        """Whether the other notes have the same model, device and settings."""
        settings = {"model", "identity", "device", "seed", "limit", "only", "judge"}
        settings |= {"temperature", "max_tokens"}
        return self.model_dump(include=settings) == other.model_dump(include=settings)

    def with_those_of(self, before: RunNotes) -> dict[str, Any]:
        """What is said of answers, with what earlier calls said: theirs stay in the folder.

        Remarks on the answers of another model or engine do not: those answers are not compared
        with these.
        """
        earlier = before.remarks if before.identity == self.identity else []
        return {
            "data": {**before.data, **self.data},
            "adaptive": [*dict.fromkeys([*before.adaptive, *self.adaptive])],
            "remarks": [*dict.fromkeys([*earlier, *self.remarks])],
        }

    def after(
        self,
        overhead: Sequence[Overhead],
        artifacts: Mapping[str, dict[str, Any]],
        outside: Mapping[str, Sequence[str]],
        seconds: float,
    ) -> RunNotes:
        """The notes after one more call on the folder.

        Args:
            overhead: All that is known.
            artifacts: The card of each fitted defense.
            outside: What the call has found, added to what is known of the same artifacts.
            seconds: How long it took.
        """
        same = {name for name, card in artifacts.items() if self.artifacts.get(name) == card}
        found = {name: said for name, said in self.outside.items() if name in same}
        for name, said in outside.items():
            found[name] = list(dict.fromkeys([*found.get(name, []), *said]))
        changes = {
            "overhead": list(overhead),
            "artifacts": dict(artifacts),
            "outside": found,
            "seconds": round(self.seconds + seconds, 1),
        }
        return self.model_copy(update=changes)


def read_notes(log_dir: Path) -> RunNotes | None:
    """The notes of a folder, or None if it has none.

    Raises:
        StorageError: they cannot be read.
    """
    return read_record(log_dir / NOTES, RunNotes, "Delete it to continue without overhead.")


def scorecard_of(
    log_dir: str | Path, answers: Sequence[Answer] | None = None, judge: str | None = None
) -> Scorecard:
    """The scorecard of the finished runs in a folder of logs.

    Args:
        log_dir: Where `safesight eval` or `inspect eval` wrote its logs.
        answers: What `read_answers(log_dir, judge)` returned, if it was called already.
        judge: The judge that labels the answers; None for each run's first judge.

    Raises:
        StorageError: there is no such folder or no finished run in it, or its notes or the losses
            of its searches are unreadable.
        InputError: the runs cannot share a scorecard.
    """
    from safesight.evals import read_answers, skipped

    folder = Path(log_dir)
    if answers is None:
        answers = read_answers(folder, judge)
    notes = read_notes(folder)
    remarks = [f"Left out: {sentence}" for sentence in skipped(folder, judge)]
    if notes is None:
        remarks.append(f"No {NOTES} beside the logs: no overhead, seed or wall time is known.")
    else:
        remarks += [*notes.remarks, *(each for said in notes.outside.values() for each in said)]
        if notes.only:
            remarks.append(f"Of the samples, only those with {told(notes.only)} were asked.")
    remarks += [*_cut(answers), *_other_requests(answers)]
    provenance = Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions_of(_PACKAGES),
        code=code_hash(),
        seed=notes.seed if notes else None,
        limit=notes.limit if notes else None,
        only=notes.only if notes else {},
        log_dir=str(folder),
        model_identity=str(answers[0].metadata.get("model_identity") or "") if answers else "",
        artifacts=notes.artifacts if notes else {},
        notes=remarks,
    )
    found = scorecard(
        answers,
        notes.overhead if notes else (),
        seconds=notes.seconds if notes else 0.0,
        seed=notes.seed if notes else 0,
        provenance=provenance,
        adaptive=_adaptive_tasks(answers, notes),
    )
    return found.model_copy(update={"searches": list(search_curves(folder, answers))})


def _cut(answers: Sequence[Answer]) -> Iterator[str]:
    """A sentence if answers end at the limit of their length."""
    cut = [answer for answer in answers if answer.metadata.get("cut")]
    if cut:
        tasks = ", ".join(dict.fromkeys(answer.task for answer in cut))
        yield (
            f"{len(cut)} of {len(answers)} answers ({tasks}) were cut off at their longest length "
            "and judged as they are. safesight eval --max-tokens sets a longer one."
        )


def _other_requests(answers: Sequence[Answer]) -> Iterator[str]:
    """A sentence for each arm that was attacked with requests which it was not asked as they are.

    So it is where two runs in a folder drew with other seeds or limits.
    """
    asked: dict[tuple[str, str], set[str]] = defaultdict(set)
    plain: dict[tuple[str, str], set[str]] = defaultdict(set)
    for answer in answers:
        asked[answer.defense, answer.task].add(answer.sample_id)
        if "plain" in answer.facts and task_parts(answer.task)[1]:
            plain[answer.defense, answer.task].add(str(answer.facts["plain"]))
    found: dict[str, list[str]] = defaultdict(list)
    for (defense, task), wanted in plain.items():
        whole = task_parts(task)[0]
        if (defense, whole) in asked and not wanted <= asked[defense, whole]:
            found[f"{task} and {whole}"].append(defense)
    for tasks, arms in found.items():
        yield (
            f"{tasks} were asked of {', '.join(arms)} about different requests, with other seeds "
            "or limits, so their rates do not compare. Ask both in one run."
        )


def _adaptive_tasks(answers: Sequence[Answer], notes: RunNotes | None) -> list[str]:
    """Those that the notes name, and those whose answers say so, whatever became of the notes.

    They say so if they are about crafted pictures, or about rows that are asked apart to be
    attacked.
    """
    told = sorted({each.task for each in answers if {"crafted", "apart"} & each.facts.keys()})
    return [*dict.fromkeys([*(notes.adaptive if notes else ()), *told])]
