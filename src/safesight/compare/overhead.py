"""What a defense costs: time and memory as ratios to the undefended model.

Absolute times depend more on the machine than on the defense, and two runs on a busy machine
differ by more than most defenses cost. So all arms answer each input back to back, in an order
that is drawn for each input, and the reported number is the median of the ratios within
inputs. In a fixed order, even one that rotates, every arm would always follow the same arm. A
second undefended arm takes part: its ratio to the first shows how much of a cost is noise. On a
CPU, time is that of the process, to which other programs add nothing; on a GPU it is wall time
around a synchronized device. Nothing here counts verdicts or reads logs.

Prefill time is the time to generate one token, answer time the time for a whole greedy answer.
Both time the model's `generate` without the processor, one input at a time. Ratios on benign
inputs cover those that the defense answered. They are separate from the ratios on refused
harmful inputs, where a detector can be *faster* than an answer.
"""

from __future__ import annotations

import random
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median_high
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from safesight.compare.records import Overhead
from safesight.errors import InputError
from safesight.grammar import UNDEFENDED
from safesight.models.asking import encode_asked
from safesight.stats import Ratio, median_ratio

if TYPE_CHECKING:
    from safesight.hosting.arms import Arm
    from safesight.models import VLM
    from safesight.types import Judge, Sample

__all__ = ["TIMED_TOKENS", "Peak", "measure", "peak_memory"]

CPU_METHOD = "weights and the largest sum of live tensors during an answer"
CUDA_METHOD = "torch.cuda.max_memory_allocated during an answer"
CPU_TIME = "CPU time of the process"
WALL_TIME = "wall time"
_CPU_CLOCK = time.get_clock_info("process_time").resolution < 1e-4
"""Whether the clock of the process is fine enough to time a short answer; on Windows it is not."""
TIMED_TOKENS = 48
"""Tokens of the longest answer that is timed."""
_SEED = 0
"""Seed of the order of the arms."""
_AGAIN = "none, again"
"""Key of the second undefended arm."""


@dataclass
class _Times:
    """Seconds per input for one arm."""

    prefill: list[float] = field(default_factory=list)
    answer: list[float] = field(default_factory=list)
    refused: list[bool] = field(default_factory=list)


def measure(
    vlm: VLM,
    arms: Sequence[Arm],
    benign: Sequence[Sample],
    harmful: Sequence[Sample],
    judge: Judge,
    *,
    max_new_tokens: int = TIMED_TOKENS,
    memory_inputs: int = 3,
    on_input: Callable[[], None] = lambda: None,
) -> list[Overhead]:
    """Time every arm against the undefended model, interleaved, and measure peak memory.

    Args:
        vlm: The model under test, with nothing attached to it.
        arms: What to measure; one of them is the undefended arm.
        benign: Inputs that should be answered.
        harmful: Inputs that a defense should refuse; may be empty.
        judge: Decides which answers are refusals.
        max_new_tokens: Maximum tokens per answer.
        memory_inputs: Number of benign inputs for measuring peak memory.
        on_input: Called after each of the `benign` and `harmful` inputs.

    Returns:
        One record per arm; that of the undefended model is of its second arm.

    Raises:
        InputError: there is no benign input, or no undefended arm to compare with.
    """
    if not benign:
        raise InputError("Overhead needs at least one benign input, and there is none. Add some.")
    if UNDEFENDED not in {arm.name for arm in arms}:
        raise InputError(f"Overhead is measured against the arm {UNDEFENDED!r}. Add it.")
    timed = {arm.name: arm for arm in arms}
    timed[_AGAIN] = timed[UNDEFENDED]
    clock = _Clock(vlm, judge, max_new_tokens, random.Random(_SEED))
    for arm in arms:  # warm-up: first calls include lazy initialisation
        clock.answer(arm, benign[0])
    on_benign = clock.all_arms(timed, benign, on_input, prefill=True)
    on_harmful = clock.all_arms(timed, harmful, on_input, prefill=False)
    peaks = {
        name: [clock.peak(arm, sample) for sample in benign[:memory_inputs]]
        for name, arm in timed.items()
    }
    about = {
        "memory_method": CUDA_METHOD if vlm.device.type == "cuda" else CPU_METHOD,
        "time_method": CPU_TIME if _has_cpu_time(vlm.device) else WALL_TIME,
        "device": str(vlm.device),
    }
    keys = {arm.name: _AGAIN if arm.name == UNDEFENDED else arm.name for arm in arms}
    return [
        _record(
            name,
            (on_benign[key], on_benign[UNDEFENDED]),
            (on_harmful[key], on_harmful[UNDEFENDED]),
            median_ratio(peaks[key], peaks[UNDEFENDED]),
            about,
        )
        for name, key in keys.items()
    ]


@dataclass(frozen=True)
class _Clock:
    """Answers inputs on one model and times the answers."""

    vlm: VLM
    judge: Judge
    max_new_tokens: int
    rng: random.Random

    def all_arms(
        self,
        arms: Mapping[str, Arm],
        samples: Sequence[Sample],
        on_input: Callable[[], None],
        *,
        prefill: bool,
    ) -> dict[str, _Times]:
        """The times of every arm, by its key; the order is drawn for each input and pass."""
        times = {name: _Times() for name in arms}
        for sample in samples:
            if prefill:
                for name in self.order(arms):
                    times[name].prefill.append(self.time(arms[name], sample, 1)[0])
            for name in self.order(arms):
                seconds, refused = self.answer(arms[name], sample)
                times[name].answer.append(seconds)
                times[name].refused.append(refused)
            on_input()
        return times

    def order(self, arms: Mapping[str, Arm]) -> list[str]:
        """The arms in random order."""
        return self.rng.sample(list(arms), len(arms))

    def answer(self, arm: Arm, sample: Sample) -> tuple[float, bool]:
        """Seconds for a whole answer, and whether it was a refusal."""
        seconds, text = self.time(arm, sample, self.max_new_tokens)
        return seconds, self.judge(text, sample) == "refused"

    def time(self, arm: Arm, sample: Sample, tokens: int) -> tuple[float, str]:
        """Seconds to generate up to `tokens` tokens, and their text."""
        inputs = encode_asked(self.vlm, [sample])
        with torch.inference_mode(), arm.attached(self.vlm):
            start = _now(self.vlm.device)
            sequences = self.vlm.generate(inputs, max_new_tokens=tokens)
            seconds = _now(self.vlm.device) - start
        return seconds, self.vlm.decode(sequences, inputs["input_ids"].shape[1])[0]

    def peak(self, arm: Arm, sample: Sample) -> float:
        """Peak memory during a whole answer, in bytes."""
        with peak_memory(self.vlm) as peak:
            self.time(arm, sample, self.max_new_tokens)
        return float(peak.bytes)


def _record(
    defense: str,
    benign: tuple[_Times, _Times],
    harmful: tuple[_Times, _Times],
    memory: Ratio,
    about: Mapping[str, str],
) -> Overhead:
    defended, undefended = benign
    prefill = median_ratio(defended.prefill, undefended.prefill)
    answered = _pairs(*benign, refused=False)
    # A defense that refuses everything still has a time until its refusal.
    answer = answered or median_ratio(defended.answer, undefended.answer)
    refused = _pairs(*harmful, refused=True)
    return Overhead(
        defense=defense,
        prefill_ratio=prefill.value,
        prefill_low=prefill.low,
        prefill_high=prefill.high,
        prefill_n=prefill.n,
        answer_ratio=answer.value,
        answer_low=answer.low,
        answer_high=answer.high,
        n=answered.n if answered else 0,
        refused_answer_ratio=refused.value if refused else None,
        refused_answer_low=refused.low if refused else None,
        refused_answer_high=refused.high if refused else None,
        refused_n=refused.n if refused else 0,
        peak_memory_ratio=memory.value,
        peak_memory_low=memory.low,
        peak_memory_high=memory.high,
        peak_memory_n=memory.n,
        undefended_answer_seconds=median_high(undefended.answer),
        **about,
    )


def _pairs(defended: _Times, undefended: _Times, *, refused: bool) -> Ratio | None:
    """The answer ratio over refused, or answered, inputs; None if there are none."""
    rows = [
        pair
        for *pair, was_refused in zip(
            defended.answer, undefended.answer, defended.refused, strict=True
        )
        if was_refused == refused
    ]
    return median_ratio([row[0] for row in rows], [row[1] for row in rows]) if rows else None


@dataclass
class Peak:
    """Filled when the block of `peak_memory` ends."""

    bytes: int = 0


@contextmanager
def peak_memory(vlm: VLM) -> Iterator[Peak]:
    """The peak memory of a model and of what runs in the block.

    On a GPU this is the allocator's own count. On a CPU the allocator keeps none, and the
    process's resident size is mostly Python and libraries; there it is the weights plus the
    largest sum of live tensors that operations returned, without workspace inside operations.

    Example:
        >>> from safesight import VLM
        >>> vlm = VLM.load("testbed")
        >>> with peak_memory(vlm) as peak:
        ...     answers = vlm.answer([[{"role": "user", "content": "what?"}]], max_new_tokens=2)
        >>> peak.bytes > sum(weight.nbytes for weight in vlm.model.parameters())
        True
    """
    peak = Peak()
    if vlm.device.type == "cuda":
        torch.cuda.synchronize(vlm.device)
        torch.cuda.reset_peak_memory_stats(vlm.device)
        yield peak
        torch.cuda.synchronize(vlm.device)
        peak.bytes = torch.cuda.max_memory_allocated(vlm.device)
        return
    weights = [*vlm.model.parameters(), *vlm.model.buffers()]
    with _LiveTensors(weights) as live:
        yield peak
    peak.bytes = live.peak


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks every storage that an operation returns until it is freed."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._live: dict[int, int] = {}
        self._current = 0
        self.peak = 0
        for tensor in known:
            self._see(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._see, result)
        return result

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        self._live[key] = storage.nbytes()
        self._current += storage.nbytes()
        self.peak = max(self.peak, self._current)
        weakref.finalize(storage, self._free, key).atexit = False

    def _free(self, key: int) -> None:
        self._current -= self._live.pop(key)


def _has_cpu_time(device: torch.device) -> bool:
    return device.type == "cpu" and _CPU_CLOCK


def _now(device: torch.device) -> float:
    """Seconds: of this process on a CPU, else of the wall clock; a GPU first ends its work."""
    if _has_cpu_time(device):
        return time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
