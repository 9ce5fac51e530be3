"""A linear probe before generation: fit it, set its threshold, judge prompts with it.

Used by the detectors that read one feature vector per prompt (`sasa`, `probe`). They define
the features; this module reads them, fits logistic regression and sets a threshold from held-out
benign prompts. How candidate layers are compared is in `validation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal

import torch
from pydantic import Field
from torch import Tensor

from safesight.activations import LinearProbe, Site, Threshold, threshold_at_fpr
from safesight.defenses.base import DefenseConfig
from safesight.defenses.shared.validation import (
    Key,
    UnseenRate,
    Validation,
    choose,
    folds_of,
    unseen_rate,
    validated,
)
from safesight.errors import InputError
from safesight.fitting.artifact import Artifact
from safesight.fitting.data import thing_of
from safesight.fitting.provenance import provenance
from safesight.fitting.ranges import in_card
from safesight.generation.calls import run_prefill
from safesight.generation.prefill import Decision, Prefill, watched_by
from safesight.generation.prompt_sizes import calibration_range
from safesight.models.asking import by_batches, encode_asked
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.fitting.data import FitData
    from safesight.fitting.stored import Stored
    from safesight.models import VLM

__all__ = [
    "Feature",
    "GateConfig",
    "GateFit",
    "LinearGate",
    "fit_gate",
    "gate_artifact",
    "gate_probe",
    "read_feature",
    "solver",
]

Feature = Literal["logits", "hidden"]


class GateConfig(DefenseConfig):
    """Settings of a linear gate."""

    at_use: ClassVar[frozenset[str]] = frozenset({"enabled", "refusal", "threshold", "batch_size"})

    feature: Feature = "hidden"
    """The last hidden state, or first-token logits as in a re-implementation. Source: ours."""
    C: float = Field(0.01, gt=0, allow_inf_nan=False)
    """Inverse strength of the probe's regularisation; with 1, as in a re-implementation, attacks
    of a kind not in the fit pass more often. Source: ours."""
    standardize: bool = True
    """Scale features before the fit; a re-implementation does not. Source: ours."""
    folds: int = Field(5, ge=2, le=20)
    """Validation folds; 5 hold out 0.2 each, as a re-implementation does. A fold holds out whole
    things, not single prompts. Source: ours."""
    margin: float = Field(0.01, ge=0, lt=1)
    """How much greater the balanced accuracy of other layers has to be, beyond one standard error,
    to replace the preferred ones. Source: ours."""
    compare_on: int = Field(500, ge=50)
    """Maximum number of the fit's prompts for comparing candidate layers. Source: ours."""
    max_fpr: float = Field(0.01, ge=0, lt=1)
    """Maximum share of held-out benign prompts refused. Source: ours."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """A probability that replaces the calibrated threshold; a re-implementation uses 0.5.
    None keeps the calibrated one. Source: ours."""
    batch_size: int = Field(16, ge=1)
    """Prompts per forward pass during a fit. Source: ours."""
    refusal: str = Field(
        "I'm sorry, but I cannot help with that request.", min_length=1, max_length=10_000
    )
    """The answer to a refused prompt. Source: secondary, a re-implementation."""


@dataclass(frozen=True)
class LinearGate:
    """A detector: reads one feature vector per row and refuses at or above the threshold."""

    sites: Sequence[Site]
    replay_from: int | None
    refusal: str
    probe: LinearProbe
    read: Callable[[Prefill], Tensor]
    """The features of every row: B x features."""

    def judge(self, prefill: Prefill) -> Decision:
        """The log-odds of harm, and which rows are refused."""
        scores = self.probe.score(self.read(prefill))
        return Decision(scores, scores >= self.probe.threshold, self.probe.threshold)


@dataclass(frozen=True)
class GateFit(Generic[Key]):
    """What `fit_gate` found."""

    chosen: Key
    """The preferred candidate, or one that is better by more than margin and noise."""
    probe: LinearProbe
    threshold: Threshold | None
    unseen: UnseenRate | None
    """What the threshold refuses of benign prompts about things that neither probe nor threshold
    has seen; None without calibration data, or if there are too few things."""
    validations: Mapping[Key, Validation]
    """The cross-validation of every candidate."""
    scores: Tensor | None = None
    """The scores of the prompts that set the threshold."""


def read_feature(prefill: Prefill, final: Tensor, feature: Feature) -> Tensor:
    """The probe's input, from the last block's output (B x L x d).

    Returns:
        B x vocabulary for "logits", B x d for "hidden", of the last prompt token.
    """
    last = prefill.at_last(final)
    return prefill.vlm.logits_of(last) if feature == "logits" else last


def fit_gate(
    vlm: VLM,
    data: FitData,
    config: GateConfig,
    gates: Mapping[Key, LinearGate],
    *,
    seed: int,
    progress: bool,
) -> GateFit[Key]:
    """Compare the candidates, fit a probe for one of them on all samples, set its threshold.

    Comparing may rerun blocks for every candidate, so it uses at most a few hundred samples.

    Args:
        vlm: The model under test; it is not changed.
        data: Labelled samples, and held-out benign ones for the threshold.
        config: Settings.
        gates: Candidates in order of preference; their probes are not used.
        seed: Seed for the folds and the solver.
        progress: Show a progress bar.

    Raises:
        InputError: there are too few harmful or benign samples for the folds.
    """
    counts = len(data.harmful), len(data.benign)
    if min(counts) < config.folds:
        raise InputError(
            f"A fit needs at least {config.folds} harmful and {config.folds} benign samples, but "
            f"there are {counts[0]} and {counts[1]}. Add samples, or use more of them."
        )
    samples = [*data.harmful, *data.benign]
    labels = torch.tensor([1] * counts[0] + [0] * counts[1])
    things = [thing_of(sample) for sample in samples]
    some, rest = _split(labels, config, seed)
    what = "comparing layers" if len(gates) > 1 else "fitting"
    found = _features(vlm, [samples[i] for i in some], gates, config.batch_size, what, progress)
    folds = folds_of(labels[some], [things[row] for row in some], config.folds, seed)
    fit = solver(config, seed)
    validations = {key: validated(x, labels[some], folds, fit) for key, x in found.items()}
    chosen = choose(validations, config.margin)
    features, only = found.pop(chosen), {chosen: gates[chosen]}
    found.clear()
    if rest:
        others = [samples[i] for i in rest]
        more = _features(vlm, others, only, config.batch_size, "fitting", progress)[chosen]
        features = torch.cat([features, more])[torch.tensor([*some, *rest]).argsort()]
    probe = fit(features, labels)
    held_out = data.calibration_benign
    if not held_out:
        return GateFit(chosen, probe, None, None, validations)
    benign = _features(vlm, held_out, only, config.batch_size, "calibrating", progress)[chosen]
    unseen = unseen_rate(
        (features, labels, things),
        (benign, [thing_of(sample) for sample in held_out]),
        folds_of(labels, things, config.folds, seed),
        fit,
        config.max_fpr,
    )
    threshold = threshold_at_fpr(scores := probe.score(benign), config.max_fpr)
    return GateFit(chosen, probe, threshold, unseen, validations, scores)


def solver(config: GateConfig, seed: int) -> Callable[[Tensor, Tensor], LinearProbe]:
    """The logistic regression of the settings: features and labels to a probe."""
    return partial(LinearProbe.fit, C=config.C, standardize=config.standardize, seed=seed)


def gate_artifact(
    name: str,
    vlm: VLM,
    data: FitData,
    config: GateConfig,
    fit: GateFit[Key],
    seed: int,
    **fitted: Any,
) -> Artifact:
    """The artifact of a fit: weight (features), bias, threshold, and provenance.

    Without calibration data, the threshold is a probability of one half.
    """
    best = fit.validations[fit.chosen]
    threshold = fit.threshold
    calibration, calibrated = None, None
    if threshold is not None:
        unseen = None if fit.unseen is None else asdict(fit.unseen)
        calibration = {"max_fpr": config.max_fpr, **asdict(threshold), "unseen_things": unseen}
    if fit.scores is not None:
        calibrated = calibration_range(vlm, data.calibration_benign, fit.scores)
    return Artifact(
        name,
        config.model_dump(mode="json"),
        {**fitted, "threshold": 0.0 if threshold is None else threshold.value},
        {"weight": fit.probe.weight.float(), "bias": fit.probe.bias.float().reshape(1)},
        {
            **provenance(vlm, data, seed),
            "validation_auroc": {"folds": best.folds, "by": best.by, **asdict(best.area)},
            "candidates": {
                str(key): {"balanced_accuracy": each.accuracy, "auroc": each.area.value}
                for key, each in fit.validations.items()
            },
            "calibration": calibration,
            **in_card(calibrated),
        },
    )


def gate_probe(stored: Stored, config: GateConfig) -> LinearProbe:
    """The fitted probe with its threshold, or with the one from the settings.

    Raises:
        ArtifactError: a tensor or the threshold is missing or invalid.
    """
    vlm = stored.vlm
    features = vlm.vocab_size if config.feature == "logits" else vlm.hidden_size
    weight, bias = stored.tensor("weight", features), stored.tensor("bias", 1)
    threshold = stored.number("threshold")
    if config.threshold is not None:
        threshold = math.log(config.threshold / (1 - config.threshold))
    return LinearProbe(weight, bias[0], threshold)


def blank_probe() -> LinearProbe:
    """A placeholder for candidates whose probe is not fitted yet."""
    return LinearProbe(torch.zeros(1), torch.tensor(0.0))


def _features(
    vlm: VLM,
    samples: Sequence[Sample],
    gates: Mapping[Key, LinearGate],
    batch_size: int,
    label: str,
    progress: bool,
) -> dict[Key, Tensor]:
    """Every candidate's features of every sample, n x features; one prefill per batch."""
    sites, replay_from = watched_by(gates.values())

    def read(batch: Sequence[Sample]) -> dict[Key, Tensor]:
        inputs = encode_asked(vlm, batch)
        _, prefill = run_prefill(vlm, dict(inputs), sites, replay_from)
        with torch.no_grad():
            return {key: gate.read(prefill).cpu() for key, gate in gates.items()}

    found = list(by_batches(samples, batch_size, read, label, progress=progress))
    return {key: torch.cat([rows[key] for rows in found]) for key in gates}


def _split(labels: Tensor, config: GateConfig, seed: int) -> tuple[list[int], list[int]]:
    """Rows for comparing candidates, stratified by label, and the others; both in order.

    More than requested if one label is so rare that its share would not fill the folds.
    """
    from sklearn.model_selection import train_test_split

    rows = list(range(len(labels)))
    rarest = min(int(labels.sum()), int((1 - labels).sum()))
    size = max(config.compare_on, math.ceil((config.folds + 1) * len(rows) / rarest))
    if len(rows) <= size + 1:  # one row left over could not be of both labels
        return rows, []
    some, rest = train_test_split(
        rows, train_size=size, stratify=labels.tolist(), random_state=seed
    )
    return sorted(some), sorted(rest)
