"""Small defenses of every kind, to try the machinery around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from safesight.activations import add, edit, resid_post
from safesight.defenses import Decision, Defense, DefenseConfig, Parts, Prefill
from safesight.models import VLM

REFUSAL = "no."


class Verdicts:
    """A detector that refuses the rows it is told to, and notes what it saw."""

    sites = (resid_post(1),)
    replay_from = None
    refusal = REFUSAL

    def __init__(self, refuse: Callable[[int], torch.Tensor]) -> None:
        self.refuse = refuse
        self.seen: list[torch.Tensor] = []

    def judge(self, prefill: Prefill) -> Decision:
        states = prefill.states[resid_post(1)]
        self.seen.append(states.clone())
        refuse = self.refuse(len(states))
        return Decision(refuse.float(), refuse, 0.5)


class FakeDetector(Defense[DefenseConfig, None]):
    name = "fake_detector"
    kind = "detector"
    paper = "none"

    def __init__(self, *rows: int, everything: bool = False) -> None:
        super().__init__()
        self.rows, self.everything = rows, everything
        self.detector = Verdicts(self.flags)

    def flags(self, count: int) -> torch.Tensor:
        return torch.tensor([self.everything or row in self.rows for row in range(count)])

    def parts(self, vlm: VLM, config: DefenseConfig, fitted: None) -> Parts:
        return Parts(detector=self.detector)


class FakeEdit(Defense[DefenseConfig, None]):
    """Adds a large vector at every token of the prefill."""

    name = "fake_edit"
    kind = "activation"
    paper = "none"

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def parts(self, vlm: VLM, config: DefenseConfig, fitted: None) -> Parts:
        def around(generate: Any, inputs: dict[str, Any]) -> Any:
            self.calls += 1
            vector = torch.linspace(-3, 3, vlm.hidden_size)
            with edit(vlm.layers, {resid_post(0): add(vector)}, prefill_only=True):
                return generate(**inputs)

        return Parts(around=around)


class FakeWeights(Defense[DefenseConfig, None]):
    """Negates the head while it is attached."""

    name = "fake_weights"
    kind = "weights"
    paper = "none"

    def parts(self, vlm: VLM, config: DefenseConfig, fitted: None) -> Parts:
        @contextmanager
        def negated() -> Iterator[None]:
            original = vlm.lm_head.weight.data
            vlm.lm_head.weight.data = -original
            try:
                yield
            finally:
                vlm.lm_head.weight.data = original.to(vlm.lm_head.weight.dtype)

        return Parts(attached=negated())
