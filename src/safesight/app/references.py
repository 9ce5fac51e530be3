"""What a question is compared with: requests that come with the package, half of them harmful.

A score or a state says little by itself. So the same detectors and layers also read some requests
whose label is known: for the bundled model pictures like its own, for any other the same requests
in writing. They are of the fit split, on which bundled artifacts were fitted, too. Everything is
read once, when it is first needed, and kept.

The curve of a question is its projection on the unsafe direction of text, layer by layer
(`analysis.dilution`): 0 is the average harmless text, 1 the average harmful text. Layers that
cannot distinguish the two are left out, since their unit is noise.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight import registry
from safesight.analysis.dilution import UnsafeDirection
from safesight.analysis.requests import Request, paired_requests
from safesight.analysis.results import Form
from safesight.analysis.states import states_before_answer
from safesight.hosting.hosts import Host
from safesight.hosting.settings import Settings

if TYPE_CHECKING:
    from safesight.hosting.arms import Arm
    from safesight.types import Label, Sample

__all__ = ["Cloud", "Levels", "References"]

_LABELS: tuple[Label, ...] = ("harmful", "benign")
_APART = 2.0
"""A layer counts if the two means of text are this many standard deviations apart."""


@dataclass(frozen=True)
class Cloud:
    """What a detector scores requests whose label is known."""

    harmful: tuple[float, ...]
    benign: tuple[float, ...]
    form: Form


@dataclass(frozen=True)
class Levels:
    """How harmful some layers find requests whose label is known, on average."""

    layers: tuple[int, ...]
    """Those that distinguish harmful text from harmless text; none if no layer does."""
    harmful: tuple[float, ...]
    benign: tuple[float, ...]
    form: Form


class References:
    """The requests, and what a host's model makes of them.

    Args:
        host: The model.
        n: Requests per label.
    """

    def __init__(self, host: Host, n: int = 24) -> None:
        self.n = n
        self._host = host
        self._bundled = host.vlm.name in registry.names("model", builtin=True)
        self._unsafe: UnsafeDirection | None = None
        self._apart = torch.zeros(0, dtype=torch.bool)
        self._levels: dict[Form, Levels] = {}
        self._clouds: dict[tuple[str, Form], Mapping[str, Cloud]] = {}
        self._once = threading.Lock()

    def form_of(self, sample: Sample) -> Form:
        """The form of the requests that a question is compared with."""
        return "object" if self._bundled and sample.pictures else "text"

    def clouds(self, arm: Arm, form: Form) -> Mapping[str, Cloud]:
        """The scores of an arm's detectors, by their name; they are asked as visitors are."""
        with self._once:
            if (arm.identity, form) not in self._clouds:
                self._clouds[arm.identity, form] = self._scored(arm, form)
            return self._clouds[arm.identity, form]

    def levels(self, form: Form) -> Levels:
        """The average curves. The caller holds the lock of the host."""
        if form not in self._levels:
            unsafe = self._direction()
            means = {
                label: unsafe.project(self._states(label, form)).mean(dim=0) for label in _LABELS
            }
            self._levels[form] = Levels(
                layers=tuple(self._apart.nonzero().flatten().tolist()),
                harmful=self._kept(means["harmful"]),
                benign=self._kept(means["benign"]),
                form=form,
            )
        return self._levels[form]

    def level(
        self, sample: Sample, defended: AbstractContextManager[Any] | None = None
    ) -> tuple[float, ...]:
        """The curve of a question; `levels` says of which layers. One prefill.

        The caller holds the lock of the host.

        Raises:
            InputError: the answers of the defense do not come from its last prefill.
        """
        unsafe = self._direction()
        states = states_before_answer(self._host.vlm, [sample], defended=defended)
        return self._kept(unsafe.project(states)[0])

    def _direction(self) -> UnsafeDirection:
        if self._unsafe is None:
            harmful, benign = (self._states(label, "text") for label in _LABELS)
            found = UnsafeDirection.of(harmful, benign)
            spread = [found.project(states).var(dim=0) for states in (harmful, benign)]
            self._apart = torch.stack(spread).mean(dim=0).sqrt() * _APART <= 1
            self._unsafe = found
        return self._unsafe

    def _kept(self, values: Tensor) -> tuple[float, ...]:
        return tuple(values[self._apart].tolist())

    def _states(self, label: Label, form: Form) -> Tensor:
        return states_before_answer(self._host.vlm, self._samples(label, form))

    def _samples(self, label: Label, form: Form) -> list[Sample]:
        rows: Sequence[Request] = paired_requests(self.n, label=label, split="fit")
        return [row.forms[form] for row in rows]

    def _scored(self, arm: Arm, form: Form) -> dict[str, Cloud]:
        settings = Settings(max_new_tokens=1)
        asked = {
            label: [
                self._host.submit(arm, settings, sample.messages())
                for sample in self._samples(label, form)
            ]
            for label in _LABELS
        }
        found: dict[str, dict[Label, list[float]]] = {}
        for label, futures in asked.items():
            for future in futures:
                for name, decision in future.result().decisions.items():
                    scores = found.setdefault(name, {each: [] for each in _LABELS})
                    if math.isfinite(decision["score"]):
                        scores[label].append(decision["score"])
        return {
            name: Cloud(tuple(scores["harmful"]), tuple(scores["benign"]), form)
            for name, scores in found.items()
        }
