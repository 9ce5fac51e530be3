"""What defenses cost in an evaluation: which of its prompts are timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safesight.console import stderr, steps

if TYPE_CHECKING:
    from safesight.compare import Overhead
    from safesight.hosting.arms import Arm
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["measured_overhead"]


def measured_overhead(
    vlm: VLM,
    arms: Sequence[Arm],
    samples: Sequence[Sample],
    inputs: int,
    max_tokens: int | None = None,
) -> list[Overhead]:
    """The overhead of every arm; empty if no benign request can be timed.

    Args:
        vlm: The model, undefended.
        arms: The arms of the evaluation.
        samples: Those with pictures, in the order of their tasks. Those in which an attack writes
            the beginning of the answer are not timed.
        inputs: Benign inputs to time, and as many harmful ones.
        max_tokens: The longest answer of the run; what is timed is shorter anyway where it is long.
    """
    from safesight.compare.overhead import TIMED_TOKENS, measure
    from safesight.judges.scope import refusal_judge

    benign, harmful = (_spread(samples, label, inputs) for label in ("benign", "harmful"))
    if not benign:
        stderr().print("Overhead is skipped: no task has benign requests about pictures.")
        return []
    with steps("overhead", len(benign) + len(harmful)) as advance:
        return measure(
            vlm,
            list(arms),
            benign,
            harmful,
            refusal_judge(),  # whatever reads the answers of the run: it may be asked over a net
            memory_inputs=max(1, inputs // 8),
            max_new_tokens=min(max_tokens or TIMED_TOKENS, TIMED_TOKENS),
            on_input=advance,
        )


def _spread(samples: Sequence[Sample], label: str, count: int) -> list[Sample]:
    """Samples of a label, spread over all tasks."""
    some = [sample for sample in samples if sample.label == label and sample.prefill is None]
    return some[:: max(1, len(some) // max(1, count))][:count]
