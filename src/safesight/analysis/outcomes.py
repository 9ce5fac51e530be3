"""Ask a model and judge its answers in one step, for experiments that keep no logs.

Evaluations meant for comparison run on Inspect (`safesight.evals`). This is a bare loop without
logs, resume or progress, for benchmarks that ask the same samples under many conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from safesight.grammar import judge_of_model
from safesight.guests import refuse_unlike
from safesight.judges.broken import broken
from safesight.judges.right import shot_of
from safesight.judges.shots import deciding
from safesight.models.asking import asked_slices
from safesight.types import Sample, Verdict

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.types import Judge

__all__ = ["Outcome", "outcomes"]


class Outcome(NamedTuple):
    """The judged answer to one sample."""

    verdict: Verdict
    """The verdict on the deciding shot."""
    correct: bool
    """Whether every shot was answered correctly."""
    answer: str
    """The answer to the deciding shot."""
    shots: tuple[Verdict, ...]
    """The verdicts on all shots."""
    broken: tuple[bool | None, ...] = ()
    """Whether the answer to each shot is broken text; None where the judge cannot tell."""


def outcomes(
    vlm: VLM,
    samples: Sequence[Sample],
    *,
    judge: Judge | None = None,
    batch_size: int = 48,
    max_new_tokens: int = 48,
    done: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """One outcome per sample; each of its shots is asked separately.

    Args:
        vlm: The model, with whatever is attached to it.
        samples: What to ask.
        judge: The judge; None for the one that knows most about this model.
        batch_size: Prompts per forward pass.
        max_new_tokens: Maximum tokens per answer.
        done: Called after every answer.

    Raises:
        InputError: one of them is no sample, or has a field of another type.

    Example:
        >>> from safesight import VLM
        >>> from safesight.benchmarks import load_benchmark
        >>> samples = load_benchmark("text_harm")(1)
        >>> outcomes(VLM.load("testbed"), samples)[0].verdict
        'refused'
    """
    refuse_unlike(Sample, samples, "samples")
    instrument = judge_of_model(vlm.name) if judge is None else judge
    shots = [(index, shot) for index, sample in enumerate(samples) for shot in sample.tries()]
    found: list[list[Outcome]] = [[] for _ in samples]
    for part in asked_slices([shot for _, shot in shots], batch_size):
        batch = shots[part]
        answers = vlm.answer([shot.messages() for _, shot in batch], max_new_tokens=max_new_tokens)
        for answer, (index, shot) in zip(answers, batch, strict=True):
            verdict = instrument(answer, shot)
            correct = instrument.correct(answer, shot_of(shot, len(found[index])))
            debris = broken(instrument, answer, shot, vlm.name)
            found[index].append(Outcome(verdict, correct, answer, (verdict,), (debris,)))
            done()
    return [_one(each, sample) for each, sample in zip(found, samples, strict=True)]


def _one(shots: Sequence[Outcome], sample: Sample) -> Outcome:
    verdicts = tuple(shot.verdict for shot in shots)
    chosen = shots[deciding(verdicts, sample.label)]
    return chosen._replace(
        correct=all(shot.correct for shot in shots),
        shots=verdicts,
        broken=tuple(debris for shot in shots for debris in shot.broken),
    )
