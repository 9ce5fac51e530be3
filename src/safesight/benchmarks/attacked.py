"""A registered benchmark with every sample under one or more registered attacks.

The names are joined: "mirage_harm+one_word" or, one attack after the other,
"image_harm+one_word+prefill"; an attack may have settings, "text_harm+best_of_n:shots=64", which
`facts["attack_settings"]` then has. The samples are those of the plain benchmark, in the same
order, so that before and after can be paired by `facts["plain"]`. Nothing is asked or judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from safesight import registry
from safesight.benchmarks.published import Benchmark
from safesight.errors import PluginError
from safesight.fitting.facts import Facts, select
from safesight.grammar import attack_name, check_task, load_attack, task_parts
from safesight.guests import Kind, samples_fault
from safesight.types import Sample

__all__ = [
    "Attacked",
    "describe_benchmark",
    "draw_samples",
    "load_benchmark",
    "published_as",
    "under_attack",
]


@dataclass(frozen=True)
class Attacked:
    """Called like a benchmark, with a number of samples, a seed and a split.

    Args:
        benchmark: A registered benchmark.
        attacks: Registered attacks, with settings or without, in the order they are applied.

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
        return under_attack(load_benchmark(self.benchmark)(n, **which), self.attacks)


def under_attack(samples: list[Sample], attacks: Sequence[str]) -> list[Sample]:
    """Samples under registered attacks, one after the other.

    Raises:
        UnknownNameError: no such attack.
        InputError: an attack needs more than its name, or a sample cannot be attacked.
        PluginError: what an attack of another package returns are no samples.
    """
    for named in attacks:
        attack, settings = load_attack(named)
        name = attack_name(named)
        samples = _checked("attack", name, [attack(sample) for sample in samples])
        if settings:
            samples = [_with_settings(sample, name, settings) for sample in samples]
    return samples


def _with_settings(sample: Sample, attack: str, settings: Mapping[str, float]) -> Sample:
    known = sample.facts.get("attack_settings", {})
    return replace(
        sample, facts={**sample.facts, "attack_settings": {**known, attack: dict(settings)}}
    )


def load_benchmark(task: str) -> Callable[..., list[Sample]]:
    """The benchmark of a task, under its attacks if there are any.

    Args:
        task: A registered benchmark, or one joined with attacks: "vqa+prefill".

    Raises:
        UnknownNameError: no such benchmark; the message suggests the nearest one.
        PluginError: what the benchmark returns are no samples (raised when it is called).

    Example:
        >>> load_benchmark("vqa+prefill")(1)[0].prefill
        'Sure,'
    """
    benchmark, attacks = task_parts(task)
    if attacks:
        return Attacked(benchmark, attacks)
    plain: Callable[..., list[Sample]] = registry.load("benchmark", benchmark)

    @wraps(plain)
    def samples(*args: Any, **which: Any) -> list[Sample]:
        return _checked("benchmark", benchmark, plain(*args, **which))

    return samples


def draw_samples(task: str, n: int | None, *, seed: int, only: Facts) -> list[Sample]:
    """The samples of a task that have some facts.

    They are chosen before they are attacked: an attack may be one that the others would not take.

    Args:
        task: A registered benchmark, or one joined with attacks.
        n: Number of samples to choose from; None for the benchmark's default.
        seed: Seed of the samples.
        only: The facts; without any, all samples are taken.

    Raises:
        UnknownNameError: no such benchmark or attack.
        InputError: no sample has the facts, or one that does cannot be attacked.

    Example:
        >>> plain = {"form": ["plain"]}
        >>> drawn = draw_samples("text_harm+typography", 6, seed=0, only=plain)
        >>> [sample.facts["form"] for sample in drawn]
        ['plain', 'plain']
    """
    benchmark, attacks = task_parts(task)
    return under_attack(select(load_benchmark(benchmark)(n, seed=seed), only, task), attacks)


def _checked(kind: Kind, name: str, found: Any) -> list[Sample]:
    """The samples, or an error that names where they come from."""
    if fault := samples_fault(found):
        raise PluginError(f"The {kind} {name!r} {fault}. Repair the package that it comes with.")
    return list(found)


def describe_benchmark(task: str) -> str:
    """One sentence about the benchmark of a task, and one about its attacks.

    Raises:
        UnknownNameError: no such benchmark or attack.
    """
    check_task(task)
    benchmark, attacks = task_parts(task)
    summary = registry.describe("benchmark", benchmark)
    return f"{summary} Under attack: {', '.join(attacks)}." if attacks else summary


def published_as(task: str) -> Benchmark | None:
    """The published benchmark behind a task, whole or in part, under attack or not, or None.

    Raises:
        UnknownNameError: no such benchmark.

    Example:
        >>> published_as("figstep").spec.max_new_tokens, published_as("vqa")
        (512, None)
    """
    name = registry.whole("benchmark", task_parts(task)[0])
    found = registry.load("benchmark", name)
    return found if isinstance(found, Benchmark) else None
