"""A registered benchmark with every sample under one or more registered attacks.

The names are joined: "mirage_harm+one_word" or, one attack after the other,
"image_harm+one_word+prefill". The samples are those of the plain benchmark, in the same order, so
that before and after can be paired by `facts["plain"]`. Nothing is asked or judged here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from safesight import registry
from safesight.errors import InputError
from safesight.grammar import check_task, task_parts
from safesight.types import Sample

__all__ = ["Attacked", "describe_benchmark", "load_benchmark"]


@dataclass(frozen=True)
class Attacked:
    """Called like a benchmark, with a number of samples, a seed and a split.

    Args:
        benchmark: A registered benchmark.
        attacks: Registered attacks, in the order they are applied.

    Example:
        >>> Attacked("mirage_benign", ("one_word",))(1)[0].question.split()[0]
        'share'
    """

    benchmark: str
    attacks: tuple[str, ...]

    def __call__(self, n: int | None = None, **which: Any) -> list[Sample]:
        """The attacked samples.

        Args:
            n: Number of samples; None for the benchmark's default.
            which: `seed`, `split` and other arguments of the benchmark.

        Raises:
            UnknownNameError: no such benchmark or attack.
            InputError: an attack needs more than its name, or a sample cannot be attacked.
        """
        samples: list[Sample] = registry.load("benchmark", self.benchmark)(n, **which)
        for name in self.attacks:
            attack = _built(name)
            samples = [attack(sample) for sample in samples]
        return samples


def _built(name: str) -> Callable[[Sample], Sample]:
    attack: Callable[..., Callable[[Sample], Sample]] = registry.load("attack", name)
    try:
        return attack()
    except TypeError as error:
        raise InputError(
            f"The attack {name!r} needs arguments ({error}), so it cannot be part of a task name. "
            "Apply it to the samples from Python."
        ) from error


def load_benchmark(task: str) -> Callable[..., list[Sample]]:
    """The benchmark of a task, under its attacks if there are any.

    Args:
        task: A registered benchmark, or one joined with attacks: "vqa+prefill".

    Raises:
        UnknownNameError: no such benchmark; the message suggests the nearest one.

    Example:
        >>> load_benchmark("vqa+prefill")(1)[0].prefill
        'Sure,'
    """
    benchmark, attacks = task_parts(task)
    if attacks:
        return Attacked(benchmark, attacks)
    plain: Callable[..., list[Sample]] = registry.load("benchmark", benchmark)
    return plain


def describe_benchmark(task: str) -> str:
    """One sentence about the benchmark of a task, and one about its attacks.

    Raises:
        UnknownNameError: no such benchmark or attack.
    """
    check_task(task)
    benchmark, attacks = task_parts(task)
    summary = registry.describe("benchmark", benchmark)
    return f"{summary} Under attack: {', '.join(attacks)}." if attacks else summary
