"""How a detector that knows one kind of harm does on another: areas and rates, set by set.

For every row of the matrix a detector is fitted on one set and its threshold set on benign prompts
of that set, or a given detector gets only its threshold there. Every column is another set's test
prompts:

    area      how well scores rank harmful above benign prompts; no threshold is involved
    caught    the share of harmful prompts at or above the row's threshold
    refused   the share of benign prompts at or above it, which was to be at most `fpr`

The diagonal is what a benchmark usually shows. All detectors judge the same prefills. Intervals are
over the things that prompts are about, as in a scorecard: Newcombe's of an area, with as many
things in place of prompts, and of a rate a bootstrap over things, or Wilson's where each prompt is
about a thing of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from safesight.activations import auroc, threshold_at_fpr
from safesight.analysis.results import Band
from safesight.defenses import FitData
from safesight.errors import InputError
from safesight.fitting.data import thing_of
from safesight.fitting.seen import Seen
from safesight.generation.scoring import decisions_of
from safesight.records import Record, versions_of
from safesight.stats import clusters_of, mean_interval
from safesight.stats.areas import newcombe

if TYPE_CHECKING:
    from safesight.defenses import AnyDefense, Artifact, Detector
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = [
    "AS_IT_IS",
    "FEW",
    "TransferCell",
    "TransferPlan",
    "TransferReport",
    "TransferRow",
    "TransferSet",
    "transfer",
]

AS_IT_IS = "as it is"
"""The row of the given artifact, with the threshold that it stores."""
FEW = 30
"""Prompts of a label below which a cell is marked: its interval spans a third of the scale."""
_PACKAGES = ("safesight", "torch", "transformers", "scikit-learn")

How = Literal["fit", "threshold"]


@dataclass(frozen=True)
class TransferSet:
    """One kind of harm, or one data set, in three splits that share no prompt."""

    name: str
    fit: Sequence[Sample] = field(repr=False)
    calibration: Sequence[Sample] = field(repr=False)
    """Benign prompts, which set the threshold."""
    test: Sequence[Sample] = field(repr=False)


@dataclass(frozen=True)
class TransferPlan:
    """How the matrix is made."""

    how: How = "fit"
    """Whether each set gets a fit of its own, or only a threshold for the given artifact."""
    fpr: float = 0.01
    """The largest share of the calibration prompts to refuse."""
    seed: int = 0
    batch_size: int = 16


class TransferCell(Record):
    """A detector of the row's set on the test prompts of the column's set."""

    area: Band
    caught: Band
    """Harmful prompts refused, with its 95% interval over things."""
    refused: Band
    """Benign prompts refused, likewise."""
    harmful: int
    benign: int

    @property
    def few(self) -> bool:
        """Whether there are too few prompts to read much into it."""
        return min(self.harmful, self.benign) < FEW


class TransferRow(Record):
    """One detector on all sets."""

    source: str
    """Where it was fitted, or its threshold set; `AS_IT_IS` for the given artifact."""
    threshold: float
    fitted: int
    """Prompts that it was fitted on for this matrix."""
    calibrated: int
    """Benign prompts that set its threshold for this matrix."""
    cells: list[TransferCell]


class TransferReport(Record):
    """The matrix of one detector on one model."""

    model: str
    identity: str
    """Hash of config, weights and dtype."""
    defense: str
    how: How
    fpr: float
    seed: int
    sets: list[str]
    """The columns."""
    rows: list[TransferRow]
    created: str
    seconds: float
    versions: dict[str, str] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _whole(self) -> TransferReport:
        if not self.sets or not self.rows:
            raise ValueError("there is no set or no row")
        if any(len(row.cells) != len(self.sets) for row in self.rows):
            raise ValueError(f"not every row has {len(self.sets)} cells")
        return self


@dataclass(frozen=True)
class _Row:
    """A detector, and the threshold that it has in one row."""

    detector: Detector
    threshold: float
    fitted: int = 0
    calibrated: int = 0


def transfer(
    vlm: VLM,
    defense: AnyDefense,
    sets: Sequence[TransferSet],
    plan: TransferPlan,
    *,
    artifact: Artifact | None = None,
    progress: bool = True,
) -> TransferReport:
    """Fit or calibrate the detector on every set, and use it on all of them.

    Args:
        vlm: The model; it is not changed.
        defense: The detector, with its settings.
        sets: At least one, each of another name.
        plan: How.
        artifact: A fit to show in a row of its own, and to set thresholds for.
        progress: Show progress bars.

    Raises:
        InputError: a set lacks harmful or benign prompts, or thresholds are to be set and there is
            no artifact.
        ArtifactError: the artifact is of another model or defense.
    """
    start = time.monotonic()
    rows = _rows(vlm, defense, sets, plan, artifact, progress)
    cells: dict[str, list[TransferCell]] = {name: [] for name in rows}
    for each in sets:
        scores = _scores(vlm, rows, each, plan, progress)
        for name, row in rows.items():
            cells[name].append(_cell(scores[name], each.test, row.threshold))
    return TransferReport(
        model=vlm.name,
        identity=vlm.identity,
        defense=defense.name,
        how=plan.how,
        fpr=plan.fpr,
        seed=plan.seed,
        sets=[each.name for each in sets],
        rows=[
            TransferRow(
                source=name,
                threshold=row.threshold,
                fitted=row.fitted,
                calibrated=row.calibrated,
                cells=cells[name],
            )
            for name, row in rows.items()
        ],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - start, 1),
        versions=versions_of(_PACKAGES),
        notes=[] if artifact is None else list(_seen(artifact, sets)),
    )


def _seen(artifact: Artifact, sets: Sequence[TransferSet]) -> Iterator[str]:
    """A sentence for each set that the given artifact knows, as far as it lists its rows."""
    seen = Seen.by([artifact.split])
    for each in sets:
        if known := len(seen.among(each.test)):
            yield (
                f"The artifact of the row “{AS_IT_IS}” has seen {known} of {len(each.test)} test "
                f"prompts of {each.name}, or their groups."
            )


def _rows(
    vlm: VLM,
    defense: AnyDefense,
    sets: Sequence[TransferSet],
    plan: TransferPlan,
    artifact: Artifact | None,
    progress: bool,
) -> dict[str, _Row]:
    """Every detector with its threshold, by the row's name."""
    rows: dict[str, _Row] = {}
    given = None if artifact is None else _detector(vlm, defense, artifact)
    if given is not None:
        rows[AS_IT_IS] = _Row(given, _stored(vlm, given, sets[0], plan))
    for each in sets:
        fitted, detector = 0, given
        if plan.how == "fit":
            fitted = len(each.fit)
            fit = defense.fit(vlm, _labelled(each), seed=plan.seed, progress=progress)
            detector = _detector(vlm, defense, fit)
        if detector is None:
            raise InputError("Thresholds are set for an artifact. Pass one with --artifact.")
        benign = decisions_of(
            vlm,
            {each.name: detector},
            each.calibration,
            batch_size=plan.batch_size,
            label=f"calibrating on {each.name}",
            progress=progress,
        )[each.name].scores
        value = threshold_at_fpr(benign, plan.fpr).value
        rows[each.name] = _Row(detector, value, fitted, len(benign))
    return rows


def _labelled(each: TransferSet) -> FitData:
    harmful, benign = (
        [sample for sample in each.fit if sample.label == label] for label in ("harmful", "benign")
    )
    return FitData(harmful, benign)


def _detector(vlm: VLM, defense: AnyDefense, artifact: Artifact) -> Detector:
    detector = defense.build(vlm, artifact).detector
    if detector is None:
        raise InputError(f"{defense.name} judges no prompts. Choose a detector, such as sasa.")
    return detector


def _stored(vlm: VLM, detector: Detector, some: TransferSet, plan: TransferPlan) -> float:
    """The threshold by which a detector decides."""
    found = decisions_of(
        vlm, {"": detector}, some.test[:1], batch_size=plan.batch_size, progress=False
    )
    return found[""].threshold


def _scores(
    vlm: VLM, rows: Mapping[str, _Row], each: TransferSet, plan: TransferPlan, progress: bool
) -> dict[str, Tensor]:
    """The scores of a set's test prompts by row; a detector with several thresholds runs once."""
    detectors = {str(id(row.detector)): row.detector for row in rows.values()}
    found = decisions_of(
        vlm,
        detectors,
        each.test,
        batch_size=plan.batch_size,
        label=f"judging {each.name}",
        progress=progress,
    )
    return {name: found[str(id(row.detector))].scores for name, row in rows.items()}


def _cell(scores: Tensor, prompts: Sequence[Sample], threshold: float) -> TransferCell:
    """Prompts about one thing are alike, so intervals count things."""
    labels = torch.tensor([int(sample.label == "harmful") for sample in prompts])
    area = auroc(scores, labels)
    flagged = (scores >= threshold).double().numpy(force=True)
    things = np.array([thing_of(sample) for sample in prompts])
    harmful, benign = (labels == label for label in (1, 0))
    low, high = newcombe(area.value, len(set(things[harmful])), len(set(things[benign])))
    return TransferCell(
        area=Band(value=area.value, low=low, high=high),
        caught=Band.of(mean_interval(flagged[harmful], clusters_of(things[harmful].tolist()))),
        refused=Band.of(mean_interval(flagged[benign], clusters_of(things[benign].tolist()))),
        harmful=area.positives,
        benign=area.negatives,
    )
