"""Overhead on a machine with planted times, and memory on tensors of known size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from safesight import registry
from safesight.cli import show
from safesight.compare import overhead
from safesight.compare.overhead import measure, peak_memory
from safesight.errors import InputError
from safesight.types import Sample
from safesight.workflows.overhead import measured_overhead

BENIGN = [Sample(id=f"b-{i}", question="benign", label="benign", target="cake") for i in range(6)]
HARMFUL = [Sample(id=f"h-{i}", question="harm", label="harmful", target="bomb") for i in range(5)]


class FakeVLM:
    """Answers cost planted seconds of a fake clock; the machine slows down all the time."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.now = 0.0
        self.slowness = 1.0
        self.arm: FakeArm | None = None
        self.order: list[str] = []
        self.model = torch.nn.Linear(8, 8)

    def encode(self, batch: Any, **_: Any) -> dict[str, Any]:
        return {"input_ids": torch.zeros(1, 4), "text": batch[0][-1]["content"][-1]["text"]}

    def generate(self, inputs: dict[str, Any], max_new_tokens: int) -> torch.Tensor:
        assert self.arm is not None
        self.order.append(self.arm.name)
        harmful = inputs["text"] == "harm"
        cost = 1.0 if max_new_tokens == 1 else 10.0
        cost *= self.arm.refusal_cost if harmful and self.arm.refuses else self.arm.cost
        self.slowness *= 1.01
        self.now += cost * self.slowness
        return torch.full((1, 5), float(harmful and self.arm.refuses))

    def decode(self, sequences: torch.Tensor, prompt_length: int) -> list[str]:
        return ["no" if sequences[0, -1] else "yes"]


class FakeArm:
    def __init__(self, name: str, cost: float, refusal_cost: float = 1.0, refuses: bool = True):
        self.name, self.cost, self.refusal_cost, self.refuses = name, cost, refusal_cost, refuses

    @contextmanager
    def attached(self, vlm: FakeVLM) -> Iterator[FakeVLM]:
        vlm.arm = self
        yield vlm
        vlm.arm = None


class FakeJudge:
    name, version = "fake", "1"

    def __call__(self, answer: str, sample: Sample) -> str:
        return "refused" if answer == "no" else "harmless"


@pytest.fixture
def vlm(monkeypatch: pytest.MonkeyPatch) -> FakeVLM:
    fake = FakeVLM()
    monkeypatch.setattr(overhead.time, "process_time", lambda: fake.now)
    monkeypatch.setattr(overhead.time, "perf_counter", lambda: 1e6 * fake.now**2)
    return fake


def _measure(vlm: Any, arms: list[Any], **settings: Any) -> dict[str, Any]:
    judge: Any = FakeJudge()
    harmful = settings.pop("harmful", HARMFUL)
    costs = measure(vlm, arms, BENIGN, harmful, judge, **settings)
    return {cost.defense: cost for cost in costs}


def test_planted_ratios_are_found_on_a_machine_that_slows_down(vlm: FakeVLM) -> None:
    arms = [FakeArm("none", 1.0, refuses=False), FakeArm("a", 1.5, 0.25), FakeArm("b", 3.0)]
    costs = _measure(vlm, arms)
    assert list(costs) == ["none", "a", "b"]
    assert costs["a"].prefill_ratio == pytest.approx(1.5, rel=0.05)
    assert costs["a"].answer_ratio == pytest.approx(1.5, rel=0.05)
    assert costs["b"].answer_ratio == pytest.approx(3.0, rel=0.05)
    assert costs["a"].refused_answer_ratio == pytest.approx(0.25, rel=0.05)
    assert costs["a"].answer_low is not None
    assert costs["a"].answer_high is not None
    assert costs["a"].answer_low <= costs["a"].answer_ratio <= costs["a"].answer_high
    assert (costs["a"].refused_answer_low, costs["a"].refused_answer_high) == (None, None)
    assert (costs["a"].prefill_n, costs["a"].n, costs["a"].refused_n) == (6, 6, 5)


def test_no_arm_always_follows_the_same_arm(vlm: FakeVLM) -> None:
    """An arm that leaves the machine slow would make its follower look slow."""
    arms = [FakeArm(name, 1.0) for name in ("none", "a", "b")]
    judge: Any = FakeJudge()
    fake: Any = vlm
    given: Any = arms
    measure(fake, given, BENIGN * 10, [], judge, memory_inputs=1)
    passes = vlm.order[3 : 3 + 2 * 60 * 4]  # after the warm-up, before the memory peaks
    rounds = [tuple(passes[i : i + 4]) for i in range(0, len(passes), 4)]
    assert all(sorted(each) == ["a", "b", "none", "none"] for each in rounds)
    before = {(left, right) for each in rounds for left, right in pairwise(each)}
    assert before == {(x, y) for x in ("none", "a", "b") for y in ("none", "a", "b")} - {
        ("a", "a"),
        ("b", "b"),
    }
    assert len(set(rounds)) > 8


def test_a_second_undefended_arm_shows_the_noise(vlm: FakeVLM) -> None:
    cost = _measure(vlm, [FakeArm("none", 1.0, refuses=False), FakeArm("a", 2.0)])["none"]
    assert cost.answer_ratio == pytest.approx(1.0, rel=0.05)
    assert cost.prefill_ratio == pytest.approx(1.0, rel=0.05)
    assert cost.answer_ratio != 1.0, "it is measured, not set"
    assert cost.time_method == "CPU time of the process"


def test_time_on_a_gpu_is_wall_time_after_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(overhead.torch.cuda, "synchronize", lambda device: done.append("work"))
    monkeypatch.setattr(overhead.time, "perf_counter", lambda: done.append("clock") or 3.0)
    assert overhead._now(torch.device("cuda")) == 3.0
    assert done == ["work", "clock"]


def test_few_inputs_give_a_ratio_without_an_interval(vlm: FakeVLM) -> None:
    judge: Any = FakeJudge()
    arms: Any = [FakeArm("none", 1.0), FakeArm("a", 2.0)]
    fake: Any = vlm
    cost = measure(fake, arms, BENIGN[:5], [], judge)[1]
    assert cost.answer_ratio == pytest.approx(2.0, rel=0.1)
    assert (cost.answer_low, cost.answer_high, cost.n) == (None, None, 5)
    assert show._ratio(cost.answer_ratio, None, None, 5) == (f"{cost.answer_ratio:.2f}", "n 5")


def test_refused_ratios_are_none_where_nothing_was_refused(vlm: FakeVLM) -> None:
    arms = [FakeArm("none", 1.0), FakeArm("a", 1.0, refuses=False)]
    cost = _measure(vlm, arms)["a"]
    assert cost.refused_answer_ratio is None
    assert cost.refused_n == 0


def test_every_input_is_reported(vlm: FakeVLM) -> None:
    calls: list[int] = []
    _measure(vlm, [FakeArm("none", 1.0)], on_input=lambda: calls.append(1))
    assert len(calls) == len(BENIGN) + len(HARMFUL)


def test_overhead_needs_a_baseline_and_an_input(vlm: FakeVLM) -> None:
    with pytest.raises(InputError, match="'none'"):
        _measure(vlm, [FakeArm("a", 1.0)])
    judge: Any = FakeJudge()
    arm: Any = FakeArm("none", 1.0)
    fake: Any = vlm
    with pytest.raises(InputError, match="benign"):
        measure(fake, [arm], [], HARMFUL, judge)


def test_peak_memory_counts_weights_and_the_worst_moment() -> None:
    fake: Any = FakeVLM()
    weights = sum(p.nbytes for p in fake.model.parameters())
    with peak_memory(fake) as peak:
        one = torch.zeros(1000)
        two = one + 1
        del one, two
        for _ in range(5):
            torch.zeros(500)
    assert peak.bytes == weights + 8000


def test_a_view_costs_nothing() -> None:
    fake: Any = FakeVLM()
    with peak_memory(fake) as peak:
        one = torch.zeros(1000)
        views = [one[i:] for i in range(10)]
        del views
    assert peak.bytes == sum(p.nbytes for p in fake.model.parameters()) + 4000


def test_no_judge_that_asks_a_model_is_asked_about_what_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each grading would cost time and money, and only refusals are looked for."""
    asked: list[Any] = []

    def measured(vlm: Any, arms: Any, benign: Any, harmful: Any, judge: Any, **_: Any) -> list[Any]:
        asked.append(judge)
        return []

    monkeypatch.setattr("safesight.compare.overhead.measure", measured)
    shown = registry.load("benchmark", "vqa")(1)
    measured_overhead(SimpleNamespace(), [], shown, 1)  # type: ignore[arg-type]
    assert [judge.name for judge in asked] == ["rules"]
