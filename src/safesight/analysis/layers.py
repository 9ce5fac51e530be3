"""All per-layer measurements of one model, on one set of prompts.

This file only decides what is measured, and in which order; each measurement has its own file:
`separability`, `dilution`, `lens`, `alignment`, `headmap`, `shift`. The unsafe direction is found
on the benchmarks' fit split and everything is measured on their test split; the two share no
sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.analysis.alignment import INSTRUCTION, alignment, described, without_picture
from safesight.analysis.dilution import UnsafeDirection, projection
from safesight.analysis.headmap import head_count, head_map
from safesight.analysis.lens import lens
from safesight.analysis.requests import Request, paired_requests
from safesight.analysis.results import (
    FORMS,
    Alignment,
    Form,
    HeadMap,
    LayerReport,
    Lens,
    Projection,
    Separability,
)
from safesight.analysis.separability import check_folds, separability
from safesight.analysis.shift import shift_alignment
from safesight.analysis.states import states_before_answer
from safesight.benchmarks import load_benchmark
from safesight.records import versions_of

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.types import Label, Sample

__all__ = ["LayerPlan", "look", "requests_of"]

Defended = Callable[[], AbstractContextManager[Any]]
"""Returns a context in which the model is defended."""
Watch = Callable[[str, int], Callable[[int], None]]
"""Takes a phase and its number of steps; returns a callback that takes the steps just done."""

_LABELS: tuple[Label, ...] = ("harmful", "benign")
_PACKAGES = ("safesight", "torch", "transformers", "scikit-learn")
_UTILITY_TASK = "vqa"
_States = Mapping[tuple["Label", Form], Tensor]
_Requests = Mapping["Label", Sequence[Request]]


@dataclass(frozen=True)
class LayerPlan:
    """What to measure."""

    n: int = 100
    """Requests per label, each in every form."""
    seed: int = 0
    folds: int = 5
    batch_size: int = 16
    instruction: str = INSTRUCTION
    """The neutral instruction of the alignment curves."""
    heads: bool = False
    """Also silence every head in turn."""
    heads_file: Path | None = None
    """Where finished heads are stored."""
    shift: Tensor | None = None
    """layers x d: vectors to compare with the unsafe direction."""
    shift_source: str = ""
    defenses: Mapping[str, Defended] = field(default_factory=dict)
    """Defenses for the dilution curve: name to the context that attaches it."""


def look(
    vlm: VLM, plan: LayerPlan | None = None, *, watch: Watch = lambda what, steps: lambda done: None
) -> LayerReport:
    """Measure every layer of a model and leave the model unchanged.

    Args:
        vlm: The model.
        plan: What to measure; None for the defaults.
        watch: For a progress bar.

    Raises:
        InputError: too few requests for the folds, or a defense without a prefill to read.
        ModelError: heads are requested, but this architecture's heads cannot be separated.

    Example:
        >>> from safesight import VLM
        >>> report = look(VLM.load("testbed"), LayerPlan(n=8, folds=2))
        >>> len(report.separability), len(report.lens[0].readable)
        (3, 8)
    """
    plan = plan or LayerPlan()
    start = time.monotonic()
    look_ = _Look(vlm, plan, watch)
    requests = requests_of(plan.n, seed=plan.seed, folds=plan.folds)
    states = {
        (label, form): look_.states(f"{label} requests, {form}", _in_form(rows, form))
        for label, rows in requests.items()
        for form in FORMS
    }
    unsafe = look_.unsafe_direction()
    return LayerReport(
        model=vlm.name,
        family=vlm.family.name,
        identity=vlm.identity,
        layers=vlm.num_layers,
        seed=plan.seed,
        n=plan.n,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions_of(_PACKAGES),
        gap=(unsafe.gap / unsafe.scale).tolist(),
        separability=[look_.separability(states, requests, form) for form in FORMS],
        projections=look_.projections(unsafe, states, requests),
        lens=[look_.lens(states, requests, form) for form in FORMS],
        alignment=look_.alignment(states, requests),
        instruction=plan.instruction,
        heads=look_.head_map(requests["harmful"]) if plan.heads else None,
        shift=None
        if plan.shift is None
        else shift_alignment(plan.shift, unsafe.direction, source=plan.shift_source),
        seconds=time.monotonic() - start,
    )


def requests_of(n: int, *, seed: int = 0, folds: int = 5) -> dict[Label, list[Request]]:
    """What a look of this size asks about; no model is needed to draw it.

    Raises:
        InputError: there are not that many, or too few for the folds of the probes.
    """
    found = {label: paired_requests(n, label=label, seed=seed) for label in _LABELS}
    check_folds(n, n, [request.concept for rows in found.values() for request in rows], folds)
    return found


def _in_form(requests: Sequence[Request], form: Form) -> list[Sample]:
    return [request.forms[form] for request in requests]


@dataclass(frozen=True)
class _Look:
    """One measurement: the model, the plan and the progress callback."""

    vlm: VLM
    plan: LayerPlan
    watch: Watch

    def states(
        self, what: str, samples: Sequence[Sample], defended: Defended | None = None
    ) -> Tensor:
        """The states of every sample at every layer: n x layers x d."""
        return states_before_answer(
            self.vlm,
            samples,
            defended=None if defended is None else defended(),
            batch_size=self.plan.batch_size,
            step=self.watch(what, len(samples)),
        )

    def unsafe_direction(self) -> UnsafeDirection:
        """The direction found on text of the fit split."""
        plan = self.plan
        harmful, benign = (
            self.states(
                f"{label} text for the direction",
                _in_form(paired_requests(plan.n, label=label, seed=plan.seed, split="fit"), "text"),
            )
            for label in _LABELS
        )
        return UnsafeDirection.of(harmful, benign)

    def separability(self, states: _States, requests: _Requests, form: Form) -> Separability:
        """The separability of one form, on objects the probe never saw."""
        return separability(
            states["harmful", form],
            states["benign", form],
            form=form,
            groups=[request.concept for label in _LABELS for request in requests[label]],
            folds=self.plan.folds,
            seed=self.plan.seed,
        )

    def projections(
        self,
        unsafe: UnsafeDirection,
        states: _States,
        requests: _Requests,
    ) -> list[Projection]:
        """All forms undefended, and drawn objects under each defense."""
        found = [
            projection(unsafe, rows, form=form, label=label, seed=self.plan.seed)
            for (label, form), rows in states.items()
        ]
        for name, defended in self.plan.defenses.items():
            for label in _LABELS:
                samples = _in_form(requests[label], "object")
                rows = self.states(f"{label} requests, object, {name}", samples, defended)
                found.append(
                    projection(
                        unsafe,
                        rows,
                        form="object",
                        label=label,
                        defense=name,
                        seed=self.plan.seed,
                    )
                )
        return found

    def lens(self, states: _States, requests: _Requests, form: Form) -> Lens:
        """The lens over harmful and benign requests of one form."""
        rows = torch.cat([states[label, form] for label in _LABELS])
        targets = [request.forms[form].target for label in _LABELS for request in requests[label]]
        return lens(self.vlm, rows, targets, form=form, seed=self.plan.seed)

    def alignment(self, states: _States, requests: _Requests) -> list[Alignment]:
        """The alignment of requests about drawn objects, both labels."""
        rows = torch.cat([states[label, "object"] for label in _LABELS])
        samples = [s for label in _LABELS for s in _in_form(requests[label], "object")]
        neutral = [described(sample, self.plan.instruction) for sample in samples]
        bare = [without_picture(sample) for sample in samples]
        return [
            alignment(rows, self.states("pictures, described", neutral), against="describe"),
            alignment(rows, self.states("requests without pictures", bare), against="text"),
        ]

    def head_map(self, requests: Sequence[Request]) -> HeadMap:
        """Harmful requests, cycling through the forms, against picture questions."""
        plan = self.plan
        forms = [FORMS[index % len(FORMS)] for index in range(plan.n)]
        safety = [r.forms[form] for r, form in zip(requests, forms, strict=True)]
        utility = load_benchmark(_UTILITY_TASK)(plan.n, seed=plan.seed)
        step = self.watch("heads", head_count(self.vlm))
        return head_map(
            self.vlm,
            safety,
            utility,
            batch_size=plan.batch_size,
            file=plan.heads_file,
            step=lambda: step(1),
        )
