"""A benchmark of the registry with every sample under an attack of the registry.

Named by joining: "mirage_harm+one_word" or, one after the other, "image_harm+one_word+prefill".
The samples are those of the plain benchmark, in its order, so that before and after can be
paired by `facts["plain"]`. Nothing is asked or judged here.
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
    """Called as a benchmark is: how many, which seed, which split.

    Args:
        benchmark: A name of the registry.
        attacks: Names of the registry, in the order in which they act.

    Example:
        >>> Attacked("mirage_benign", ("one_word",))(1)[0].question.split()[0]
        'share'
    """

    benchmark: str
    attacks: tuple[str, ...]

    def __call__(self, n: int | None = None, **which: Any) -> list[Sample]:
        """The attacked samples.

        Args:
            n: How many; None is the benchmark's own choice.
            which: `seed`, `split` and what else the benchmark takes.

        Raises:
            UnknownNameError: no such benchmark or attack.
            InputError: an attack cannot be made from its name alone, or a sample not be attacked.
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
            f"The attack {name!r} needs more than its name ({error}), so no task can be named "
            "with it. Apply it to the samples from Python."
        ) from error


def load_benchmark(task: str) -> Callable[..., list[Sample]]:
    """The benchmark of a task, under its attacks if there are any.

    Args:
        task: A benchmark of the registry, or one joined with attacks: "vqa+prefill".

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
