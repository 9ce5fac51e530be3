"""Sets the threshold of a fitted detector on somebody's benign prompts, and checks it on others.

The benign rows are divided in two by group: one part sets the threshold, the other counts what it
refuses. The probe and its layers stay as they were, unless layers are to be chosen again, which is
a new fit. The result is an artifact like any other, whose card keeps all earlier calibrations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from safesight.activations import threshold_at_fpr
from safesight.defenses import Artifact, FitData, load_defense
from safesight.errors import InputError
from safesight.fitting.data import thing_of
from safesight.fitting.ranges import CalibrationRange, Spread, in_card
from safesight.fitting.seen import Seen, marked, rows_of
from safesight.fitting.thresholds import stored_threshold, with_threshold
from safesight.generation.prompt_sizes import calibration_range
from safesight.generation.scoring import decisions_of
from safesight.records import Record
from safesight.stats.rates import clopper_pearson, rows_for
from safesight.workflows.calibration_plan import CalibrationPlan
from safesight.workflows.own_data import fit_split

if TYPE_CHECKING:
    from safesight.data import Data
    from safesight.defenses import AnyDefense, Detector
    from safesight.generation.prefill import Decision
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = [
    "Achieved",
    "Calibrated",
    "CalibrationPlan",
    "benign_rows",
    "calibrate",
    "check_detector",
    "chosen_again",
    "halves",
]


class Achieved(Record):
    """A share of benign rows that was refused, with its exact 95% interval."""

    value: float
    low: float
    high: float
    n: int
    groups: int
    """Groups that the rows come in; a row without a group is one by itself."""

    @classmethod
    def of(cls, refused: Tensor, samples: Sequence[Sample]) -> Achieved:
        """The share that is true."""
        rate = clopper_pearson(int(refused.sum()), len(refused))
        groups = len(set(map(thing_of, samples)))
        return cls(value=rate.value, low=rate.low, high=rate.high, n=rate.n, groups=groups)


class Calibrated(Record):
    """What a calibration found."""

    defense: str
    model: str
    source: str
    fpr: float
    before: float
    """The threshold until now."""
    threshold: float
    refused_before: Achieved
    """All benign rows, with the threshold until now."""
    set_on: Achieved
    """The rows that set the new threshold."""
    checked_on: Achieved | None
    """The other rows; None if all rows are of one group."""
    left_out: int
    """Benign rows that the fit, or an earlier calibration, has seen."""
    needed: int
    """The fewest rows that can show the rate."""
    scores: Spread
    """Scores of the rows that set the threshold."""
    scores_before: Spread | None
    """Scores where the threshold was set until now; None if the artifact does not say."""
    fitted_again: bool
    """Whether layers were chosen again, so that scores before and now are of different probes."""

    @property
    def few(self) -> bool:
        """Whether too few rows set the threshold, or check it, to show the rate."""
        return min(self.set_on.n, self.checks) < self.needed

    @property
    def missed(self) -> bool:
        """Whether, beyond chance, more rows that check the threshold are refused than wanted."""
        return self.checked_on is not None and self.checked_on.low > self.fpr

    @property
    def checks(self) -> int:
        """Rows that the threshold is checked on."""
        return 0 if self.checked_on is None else self.checked_on.n


def check_detector(defense: AnyDefense) -> None:
    """Refuse a defense that judges no prompt.

    Raises:
        InputError: it is not a detector.
    """
    if defense.kind != "detector":
        raise InputError(
            f"{defense.name} is not a detector of prompts, whose threshold this sets. Use one that "
            "is, such as sasa or probe."
        )


def benign_rows(data: Data) -> list[Sample]:
    """The rows that may set a threshold.

    Raises:
        InputError: there are none.
    """
    found = [sample for sample in data.samples if sample.label == "benign"]
    if not found:
        raise InputError(
            f"All {len(data.samples)} rows of {data.source} are harmful, and a threshold is set on "
            "benign ones. Add rows with the label benign."
        )
    return found


def chosen_again(
    vlm: VLM, defense: AnyDefense, artifact: Artifact, data: Data, *, seed: int
) -> Artifact:
    """The detector with its layers chosen on labelled rows, which is a new fit without a threshold.

    Args:
        vlm: The model.
        defense: The detector.
        artifact: What it was fitted to until now; its other settings are kept.
        data: Harmful and benign rows. Half of their groups are used.
        seed: Seed for the split and the fit.

    Raises:
        InputError: there are no harmful rows, or too few of a label.
    """
    if all(sample.label == "benign" for sample in data.samples):
        raise InputError(
            f"Choosing layers means fitting {defense.name} again, which needs harmful rows, and "
            f"{data.source} has none. Leave out --layers, or add rows with the label harmful."
        )
    kept = {
        name: value
        for name, value in artifact.config.items()
        if name not in ("layer", "layers", "threshold")
    }
    split = fit_split(data, seed=seed)
    rows = FitData(split.data.harmful, split.data.benign)
    fit = load_defense(defense.name, **kept).fit(vlm, rows, seed=seed)
    fit = fit.with_split(split.source, rows_of(rows), split.file)
    earlier = {"hash": artifact.hash, "data": dict(artifact.card.get("data", {}))}
    fits = [*artifact.card.get("earlier_fits", []), earlier]
    return replace(fit, card={**fit.card, "earlier_fits": fits})


def calibrate(
    vlm: VLM,
    defense: AnyDefense,
    artifact: Artifact,
    data: Data,
    plan: CalibrationPlan,
    *,
    fit: Artifact | None = None,
    progress: bool = True,
) -> tuple[Artifact, Calibrated]:
    """Set the threshold; the model and the given artifact are not changed.

    Args:
        vlm: The model.
        defense: The detector.
        artifact: What it was fitted to until now.
        data: Rows of which the benign ones are used, without those that the fit has seen.
        plan: What is asked of the threshold.
        fit: A fit with other layers, from `chosen_again`, to set the threshold of; None keeps all.
        progress: Show a progress bar.

    Raises:
        InputError: no benign row is left, or the defense has no threshold.
        ArtifactError: an artifact is of another model or defense.
    """
    new = artifact if fit is None else fit
    new = with_threshold(new, stored_threshold(new), plan.fpr)
    rows, left_out = _unseen(new, data)
    found = decisions_of(
        vlm,
        {"before": _detector(vlm, defense, artifact), "now": _detector(vlm, defense, new)},
        rows,
        batch_size=plan.batch_size,
        label="calibrating",
        progress=progress,
    )
    _check_threshold(new, found["now"])
    setting, checking = _parts(rows, found["now"].scores, plan.seed)
    threshold = threshold_at_fpr(setting.scores, plan.fpr)
    before = CalibrationRange.of(artifact.card)
    report = Calibrated(
        defense=defense.name,
        model=vlm.name,
        source=data.source,
        fpr=plan.fpr,
        before=found["before"].threshold,
        threshold=threshold.value,
        refused_before=Achieved.of(found["before"].refuse, rows),
        set_on=setting.refused_at(threshold.value),
        checked_on=checking.refused_at(threshold.value) if checking.samples else None,
        left_out=left_out,
        needed=rows_for(plan.fpr),
        scores=Spread.of(setting.scores.tolist()),
        scores_before=None if before is None else before.scores,
        fitted_again=fit is not None,
    )
    about = _entries(artifact, report, FitData((), (), setting.samples).hash, plan.seed)
    about |= in_card(calibration_range(vlm, setting.samples, setting.scores))
    seen = [*marked("calibration", setting.samples), *marked("test", checking.samples)]
    return with_threshold(new, threshold.value, plan.fpr, about).with_more_rows(seen), report


@dataclass(frozen=True)
class _Part:
    """Some of the rows, with their scores."""

    samples: list[Sample]
    scores: Tensor

    def refused_at(self, threshold: float) -> Achieved:
        return Achieved.of(self.scores >= threshold, self.samples)


def _parts(rows: Sequence[Sample], scores: Tensor, seed: int) -> tuple[_Part, _Part]:
    setting, checking = halves(rows, seed)
    return (
        _Part([rows[index] for index in setting], scores[setting]),
        _Part([rows[index] for index in checking], scores[checking]),
    )


def halves(samples: Sequence[Sample], seed: int) -> tuple[list[int], list[int]]:
    """The rows that set a threshold and those that check it; no group is in both.

    Of an odd number of groups, one more sets it. The order of the rows does not matter.

    Example:
        >>> from safesight.types import Sample
        >>> rows = [Sample(str(i), "?", "benign", "", facts={"group": i // 2}) for i in range(6)]
        >>> [len(part) for part in halves(rows, 0)]
        [4, 2]
    """
    things = [thing_of(sample) for sample in samples]
    ordered = sorted(
        set(things), key=lambda thing: hashlib.sha256(f"{seed}/{thing}".encode()).digest()
    )
    first = set(ordered[: -(-len(ordered) // 2)])
    setting = [index for index, thing in enumerate(things) if thing in first]
    return setting, [index for index, thing in enumerate(things) if thing not in first]


def _unseen(artifact: Artifact, data: Data) -> tuple[list[Sample], int]:
    """The benign rows that no fit or calibration has seen, and how many are left out."""
    rows = benign_rows(data)
    seen = {sample.id for sample in Seen.by([artifact.split]).among(data.samples)}
    left = [sample for sample in rows if sample.id not in seen]
    if not left:
        raise InputError(
            f"{artifact.defense} has seen all {len(rows)} benign rows of {data.source}, or their "
            "groups, so none is left to set a threshold on. Add rows of other groups."
        )
    return left, len(rows) - len(left)


def _detector(vlm: VLM, defense: AnyDefense, artifact: Artifact) -> Detector:
    detector = defense.build(vlm, artifact).detector
    if detector is None:
        raise InputError(f"{defense.name} judges no prompts, so it has no threshold to calibrate.")
    return detector


def _check_threshold(artifact: Artifact, found: Decision) -> None:
    """Refuse a detector that does not decide by the threshold in its artifact."""
    stored = stored_threshold(artifact)
    if found.threshold != stored:
        raise InputError(
            f"{artifact.defense} decides by {found.threshold:g} and not by the threshold "
            f"{stored:g} in its artifact, so it cannot be calibrated."
        )


def _entries(artifact: Artifact, found: Calibrated, data: str, seed: int) -> dict[str, Any]:
    """What a card says about its calibrations, with the newest one in `calibration`."""
    before = artifact.card.get("calibration")
    rate = found.set_on
    return {
        "calibration": {
            "max_fpr": found.fpr,
            "value": found.threshold,
            "rate": rate.value,
            **rate.model_dump(exclude={"value"}),
            "source": found.source,
            "data": data,
            "seed": seed,
            "left_out": found.left_out,
            "checked_on": None if found.checked_on is None else found.checked_on.model_dump(),
        },
        "earlier_calibrations": [
            *artifact.card.get("earlier_calibrations", []),
            *([before] if before else []),
        ],
    }
