"""Files of one's own in an evaluation or a fit: as tasks, as data to fit on, without what was seen.

A fit on a file uses its fit and calibration splits (`safesight.data.split`) and keeps a list of
the rows with the artifact. An evaluation leaves out what a defense of the run was fitted on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safesight import registry
from safesight.compare.folder import Source, read_notes
from safesight.data import Data, OwnTask, read_data, split_by_group
from safesight.data.balance import nuisances
from safesight.data.counts import counted
from safesight.data.task import task_name
from safesight.errors import InputError
from safesight.fitting.data import FitData
from safesight.fitting.facts import Facts, select, without
from safesight.fitting.seen import Seen, rows_of
from safesight.grammar import task_parts
from safesight.stats.rates import rows_for
from safesight.types import Sample, TuningSample, group_of
from safesight.workflows.attacked_rows import ATTACKED, AttackedRows

if TYPE_CHECKING:
    from safesight.data.split import Split
    from safesight.defenses import Artifact
    from safesight.fitting.seen import SplitRow

__all__ = [
    "FitSplit",
    "OwnData",
    "Rows",
    "add_again",
    "add_tasks",
    "fit_split",
    "joined",
    "leave_out_seen",
    "sources_of",
    "tasks_with",
    "told_after",
    "told_before",
    "training_split",
]

WEAK = 0.7
"""AUROC below which a fit is warned about."""
Rows = Literal["unseen", "all"]
"""Which rows of a file to ask: those that no defense of the run was fitted on, or all."""


@dataclass(frozen=True)
class OwnData:
    """The files that a run reads.

    Example:
        >>> OwnData(["mine.csv"], {"question": "prompt"}).rows
        'unseen'
    """

    sources: Sequence[str] = ()
    """Files, folders or data sets of the hub; see `safesight.data.records`."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of columns in them, by the schema's names."""
    rows: Rows = "unseen"


def add_tasks(own: OwnData) -> dict[str, Data]:
    """Read the files and register each as a task; returns what they hold, by task.

    Raises:
        InputError: a file cannot be used, or two have the same name.
    """
    found: dict[str, Data] = {}
    for source in own.sources:
        name = task_name(source)
        if name in found:
            raise InputError(
                f"{found[name].source} and {source} would both be the task {name!r}. Rename one."
            )
        found[name] = read_data(source, own.columns)
    for name, data in found.items():
        registry.add("benchmark", name, OwnTask(data), f"Prompts of {data.source}.")
    return found


def sources_of(own: OwnData) -> dict[str, Source]:
    """Where a report finds the files again, by task."""
    return {
        task_name(source): Source(source=_found_again(source), columns=dict(own.columns))
        for source in own.sources
    }


def add_again(log_dir: Path) -> Iterator[str]:
    """Register the files of an earlier run, to look up pictures; a sentence for each that is gone.

    Raises:
        StorageError: the notes of the run cannot be read.
    """
    notes = read_notes(log_dir)
    for task, source in (notes.data if notes else {}).items():
        try:
            data = read_data(source.source, source.columns)
            about = f"Prompts of {data.source}."
            registry.add("benchmark", task, OwnTask(data, whole=True), about)
            registry.add("benchmark", f"{task}{ATTACKED}", AttackedRows(task), about, part_of=task)
        except InputError as error:
            yield f"The pictures of {task} are left out. {error}"


def _found_again(source: str) -> str:
    """The source under a name that holds in every folder."""
    return source if source.startswith("hf:") else str(Path(source).expanduser().resolve())


def tasks_with(tasks: Sequence[str], own: Mapping[str, Data]) -> list[str]:
    """The tasks of a run, and of its files those that are not among them, attacked or not.

    Example:
        >>> tasks_with(["vqa", "mine+prefill"], {"mine": Data("m.csv", ()), "x": Data("x.csv", ())})
        ['vqa', 'mine+prefill', 'x']
    """
    named = {task_parts(task)[0] for task in tasks}
    return [*tasks, *(name for name in own if name not in named)]


def leave_out_seen(
    own: Mapping[str, Data], artifacts: Mapping[str, Artifact], rows: Rows
) -> Iterator[str]:
    """Register the files again without the rows that a fit saw; a sentence for each file.

    Args:
        own: The files of the run, by task.
        artifacts: What the defenses of the run were fitted on, by defense.
        rows: "all" leaves nothing out, and says so.

    Raises:
        InputError: nothing of a file would be left.
    """
    fitted = {name: artifact.split for name, artifact in artifacts.items() if artifact.split}
    if not fitted:
        return
    seen = Seen.by(fitted.values())
    for task, data in own.items():
        known = seen.among(data.samples)
        ids = {sample.id for sample in known}
        if changed := [s for s in data.samples if s.id in seen.ids and s.id not in ids]:
            yield (
                f"{len(changed)} rows of {data.source} have the id of a row of the fit, and other "
                "text or pictures. If they still ask for the same, the fit has seen it."
            )
        if not known:
            continue
        names = " and ".join(
            name for name, split in fitted.items() if Seen.by([split]).among(data.samples)
        )
        part = f"{len(known)} of {len(data.samples)} rows of {data.source}"
        if rows == "all":
            yield (
                f"{names} saw {part} in a fit or calibration. Rates over all rows say little about "
                "requests that it has not seen."
            )
            continue
        if len(known) == len(data.samples):
            raise InputError(
                f"{names} was fitted on all rows of {data.source}, so no row would test it. Use "
                "other rows, or ask these with --rows all."
            )
        left = OwnTask(data, frozenset(ids))
        registry.add("benchmark", task, left, f"Prompts of {data.source}, without those seen.")
        yield f"{part} are left out: {names} saw them, or their group, in a fit or calibration."


@dataclass(frozen=True)
class FitSplit:
    """A file divided for a fit: the samples, and the row list that the artifact keeps."""

    data: FitData
    test: Sequence[Sample] = field(repr=False)
    """Kept for the test, with what was held out."""
    unused: Sequence[Sample] = field(default=(), repr=False)
    """Harmful rows of the groups whose benign rows set the threshold."""
    source: str = ""
    file: str = ""
    """Hash of the file's content."""

    @property
    def fitted(self) -> list[Sample]:
        """The samples to fit on."""
        return [*self.data.harmful, *self.data.benign]

    @property
    def rows(self) -> list[SplitRow]:
        """Every row with its split."""
        return rows_of(self.data, self.test)


def fit_split(
    data: Data, *, seed: int, share: float = 1.0, held_out: Facts | None = None
) -> FitSplit:
    """Divide a file by group: to fit on, for the threshold, and for the test.

    Args:
        data: The file.
        seed: Another seed makes another split.
        share: Fraction of the fit split to use.
        held_out: Facts whose samples are kept for the test, all of them.

    Raises:
        InputError: the file has too few groups, no sample has the facts, or the share leaves a
            label without samples.
    """
    split = _divided(data, seed, held_out)
    attacks, benign = _by_label(split["calibration"])
    # The threshold is set on benign rows, so harmful ones are left for the test.
    taken = {group_of(sample.facts) for sample in benign} - {None}
    unused = [sample for sample in attacks if group_of(sample.facts) in taken]
    spare = [sample for sample in attacks if group_of(sample.facts) not in taken]
    found = _drawn(split["fit"], benign, share, seed)
    found = replace(found, tasks=(task_name(data.source),), held_out=held_out or {})
    return FitSplit(found, [*split["test"], *spare], unused, data.source, data.hash)


def training_split(
    data: Data, *, seed: int, share: float = 1.0, held_out: Facts | None = None
) -> FitSplit:
    """Divide a file by group: prompts to train on, without answers, and those for the test.

    Args:
        data: The file.
        seed: Another seed makes another split.
        share: Fraction of the prompts to train on that is used.
        held_out: Facts whose samples are kept for the test, all of them.

    Raises:
        InputError: as for `fit_split`, or a prompt is more than a question with a picture.
    """
    split = _divided(data, seed, held_out)
    # There is no threshold to set, so those rows are trained on as well.
    found = _drawn([*split["fit"], *split["calibration"]], (), share, seed)
    rows = [_unanswered(sample, data.source) for sample in (*found.harmful, *found.benign)]
    tasks = (task_name(data.source),)
    found = replace(found, tuning=rows, tasks=tasks, held_out=held_out or {})
    return FitSplit(found, split["test"], source=data.source, file=data.hash)


def _divided(data: Data, seed: int, held_out: Facts | None) -> dict[Split, list[Sample]]:
    """The splits of a file, and what is held out among those of the test."""
    apart = select(data.samples, held_out, data.source) if held_out else []
    split = split_by_group(without(data.samples, held_out or {}), seed=seed, source=data.source)
    return {**split, "test": [*split["test"], *apart]}


def _drawn(
    pool: Sequence[Sample], calibration: Sequence[Sample], share: float, seed: int
) -> FitData:
    """A share of a pool, or all of it."""
    if share < 1:
        return FitData.from_pool(pool, calibration, share=share, seed=seed)
    harmful, benign = _by_label(pool)
    return FitData(harmful, benign, calibration)


def _unanswered(sample: Sample, source: str) -> TuningSample:
    """A prompt as a row to train on; harmful ones are to be unlearned."""
    if sample.system or sample.turns or sample.shots or sample.further_images or sample.prefill:
        raise InputError(
            f"The row {sample.id!r} of {source} is more than a question with at most one picture, "
            "which is all that can be trained on. Leave it out, or write it with the columns "
            "question and image."
        )
    group = group_of(sample.facts)
    return TuningSample(
        sample.id,
        sample.question,
        "",
        sample.label,
        "forget" if sample.label == "harmful" else "retain",
        sample.image,
        group=None if group is None else str(group),
    )


def _by_label(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    harmful = [sample for sample in samples if sample.label == "harmful"]
    return harmful, [sample for sample in samples if sample.label == "benign"]


def told_before(split: FitSplit) -> Iterator[str]:
    """What a file of prompts is divided into, and what may be learned in place of the request."""
    if not split.source or not split.fitted:
        return
    yield f"fit: {counted(split.fitted)}"
    if split.data.calibration_benign:
        yield f"calibration: {counted(split.data.calibration_benign)}"
    yield f"test: {counted(split.test)}"
    if split.unused:
        yield f"not used: {counted(split.unused)}, of groups that are in the calibration"
    for each in nuisances(split.fitted):
        if each.alarming:
            yield f"Warning: {each.sentence} That may be learned in place of the request."


def told_after(split: FitSplit, artifact: Artifact) -> Iterator[str]:
    """What to know of a fit: how well it tells the labels apart, what its threshold can show."""
    yield from _areas(split, artifact)
    calibration = artifact.card.get("calibration") or {}
    rate, n = calibration.get("max_fpr"), calibration.get("n")
    if rate and n is not None and n < (needed := rows_for(rate)):
        yield (
            f"Warning: only {n} benign rows set the threshold. To show that no more than "
            f"{100 * rate:g}% of such prompts are refused takes {needed} or more; safesight "
            "calibrate sets it again on others."
        )


def _areas(split: FitSplit, artifact: Artifact) -> Iterator[str]:
    """The probe's AUROC, and beside it that of everything else that tells the labels apart."""
    found = artifact.card.get("validation_auroc") or artifact.card.get("training_auroc")
    if not split.source or not found:
        return
    how = "Cross-validated" if "validation_auroc" in artifact.card else "Training"
    weak = " Warning: that is close to chance." if found["value"] < WEAK else ""
    yield f"{how} AUROC of {artifact.defense}: {found['value']:.2f}.{weak}"
    for each in nuisances(split.fitted):
        yield f"For comparison, of {each.name} alone: {each.auroc:.2f}."


def joined(own: Mapping[str, Data]) -> Data:
    """All files as one; ids are told apart by the file.

    Example:
        >>> rows = [Sample("1", "?", "benign", "")]
        >>> [s.id for s in joined({"a": Data("a.csv", rows), "b": Data("b.csv", rows)}).samples]
        ['a/1', 'b/1']
    """
    if len(own) == 1:
        return next(iter(own.values()))
    samples = [
        replace(sample, id=f"{task}/{sample.id}")
        for task, data in own.items()
        for sample in data.samples
    ]
    return Data(" and ".join(data.source for data in own.values()), samples)
