"""Every registered benchmark as an Inspect task.

A task's data set holds descriptions only, so memory does not grow with the number of pictures;
`asking` renders them. The version of a task contains the identity of the arm that answers it,
so that Inspect resumes only that arm's own answers, and a hash of the samples, for which every
picture is rendered once in advance.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.dataset import Sample as InspectSample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Metric
from inspect_ai.solver import Solver, generate

from safesight import registry
from safesight.benchmarks import Benchmark, describe_benchmark, draw_samples, published_as
from safesight.errors import InputError
from safesight.evals.active import active_api
from safesight.evals.asking import asking, shooting, unreadable
from safesight.evals.house_rules import forbidden_by
from safesight.evals.placeholders import check_placeholders
from safesight.evals.scorers import grouped_utility, metrics_for, verdict
from safesight.evals.session import once, planned
from safesight.fitting.facts import parsed_facts
from safesight.grammar import UNDEFENDED, task_parts
from safesight.judges.scope import judge_for
from safesight.types import Sample, pixels_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from safesight.fitting.artifact import Artifact

__all__ = ["TASK_VERSION", "benchmark_task", "fit_caveat", "register_tasks", "registered"]

TASK_VERSION = 2
"""Increased when the same samples are asked or judged differently."""


def benchmark_task(
    benchmark: str,
    limit: int | None = None,
    seed: int = 0,
    judge: str | None = None,
    only: Sequence[str] = (),
) -> Task:
    """The Inspect task of a benchmark.

    Args:
        benchmark: A registered benchmark.
        limit: Number of samples; None for the benchmark's default.
        seed: Seed of the samples.
        judge: A registered judge; None for the one that knows most (`judges.scope.judge_for`).
        only: Facts of the samples to keep, each "FACT=VALUE"; all are kept without one.

    Raises:
        UnknownNameError: no such benchmark or judge.
        InputError: there are no samples, none has the facts, a picture cannot be read, or a text
            holds the model's image placeholder; a published benchmark is not there or not complete.
    """
    published = published_as(benchmark)
    samples = draw_samples(benchmark, limit, seed=seed, only=parsed_facts(only, "only"))
    if not samples:
        raise InputError(
            f"The benchmark {benchmark!r} has no samples with limit {limit}. Raise the limit."
        )
    by_id = {sample.id: sample for sample in samples}
    if len(by_id) < len(samples):
        raise InputError(
            f"The benchmark {benchmark!r} uses a sample id twice. Give each sample its own id."
        )
    api = active_api()
    arm, config = _described_arm(api)
    _check_texts(api, benchmark, samples)
    judge = judge_for(arm.get("model", ""), benchmark, judge)
    version = "-".join(
        [str(TASK_VERSION), _hash(benchmark, samples), *([arm["identity"][:16]] if arm else [])]
    )
    return Task(
        dataset=MemoryDataset([_described(sample) for sample in samples], name=benchmark),
        setup=asking(by_id),
        solver=_solver(by_id, _drawn_with(api, seed)),
        scorer=verdict(judge),
        metrics=[*_metrics(samples, published)],
        config=_with_length(config, published, api),
        name=benchmark,
        version=version,
        tags=[_tag(arm["defense"])] if arm else None,
        metadata={
            "benchmark": benchmark,
            "judge": judge,
            "seed": seed,
            "begun": time.time_ns(),
            **({"data": once(f"data {benchmark}", published.provenance)} if published else {}),
            **arm,
        },
    )


def _solver(samples: Mapping[str, Sample], seed: int | None) -> Solver:
    if seed is None and not any(sample.shots for sample in samples.values()):
        return generate()
    return shooting(samples, seed)


def _drawn_with(api: Any | None, seed: int) -> int | None:
    """The seed of sampled answers; None if they are greedy, or another provider's."""
    if api is None or not api.config.temperature:
        return None
    return seed if api.config.seed is None else int(api.config.seed)


def _metrics(samples: Sequence[Sample], published: Benchmark | None) -> list[Metric]:
    paired = published is not None and published.spec.paired
    return [*metrics_for(samples), *([grouped_utility()] if paired else [])]


def _with_length(
    config: GenerateConfig, published: Benchmark | None, api: Any | None
) -> GenerateConfig:
    """With the length of answers that the benchmark sets; an option of the run replaces it."""
    if published is None or (api is not None and api.config.max_tokens):
        return config
    return config.model_copy(update={"max_tokens": published.spec.max_new_tokens})


def _tag(arm: str) -> str:
    """What the list of logs in `inspect view` shows of an arm."""
    return "undefended" if arm == UNDEFENDED else arm


def register_tasks() -> dict[str, Callable[..., Task]]:
    """One `@task` per benchmark, so that `inspect eval safesight/<benchmark>` finds it."""
    return {name: _register(name) for name in registry.names("benchmark")}


def registered(benchmark: str) -> str:
    """The name under which Inspect finds the task of a benchmark.

    A benchmark under attack ("vqa+prefill") and one of this process are registered on first use.

    Raises:
        UnknownNameError: no such benchmark or attack.
    """
    describe_benchmark(benchmark)
    name, attacks = task_parts(benchmark)
    if attacks or registry.is_local("benchmark", name):  # others are registered already
        _register(benchmark)
    return f"safesight/{benchmark}"


def _register(benchmark: str) -> Callable[..., Task]:
    def make(
        limit: int | None = None,
        seed: int = 0,
        judge: str | None = None,
        only: list[str] | None = None,
    ) -> Task:
        return planned(benchmark_task(benchmark, limit, seed, judge, only or ()))

    make.__name__ = make.__qualname__ = benchmark
    make.__doc__ = describe_benchmark(benchmark)
    made: Callable[..., Task] = task(name=benchmark)(make)
    return made


def _described(sample: Sample) -> InspectSample:
    return InspectSample(
        id=sample.id,
        input=sample.question,
        target=sample.target,
        metadata={
            "question": sample.question,
            "label": sample.label,
            "attack": sample.attack,
            "facts": dict(sample.facts),
            **({"shots": list(sample.shots)} if sample.shots else {}),
            **({"turns": list(sample.turns)} if sample.turns else {}),
            **({} if sample.prefill is None else {"prefill": sample.prefill}),
        },
    )


def _hash(benchmark: str, samples: Sequence[Sample]) -> str:
    """Short hash of everything about the samples, including the pixels of their pictures."""
    described = _description_hash(samples)
    # All arms of a run get the same pictures, so the first arm's hash is reused.
    pixels = once(f"{benchmark} {described}", partial(_pixel_hash, samples))
    return hashlib.sha256(f"{described} {pixels}".encode()).hexdigest()[:8]


def _pixel_hash(samples: Sequence[Sample]) -> str:
    found = [pixels for sample in samples for pixels in _pixels_of(sample)]
    return hashlib.sha256(" ".join(found).encode()).hexdigest()


def _pixels_of(sample: Sample) -> list[str]:
    """A hash of every picture; the pictures are not kept."""
    shown = sample.tries() if sample.shot_pictures else (sample,)
    try:
        return [_pixels(picture()) for each in shown for picture in each.pictures]
    except OSError as error:
        raise unreadable(sample, error) from error


def _pixels(picture: Image) -> str:
    return hashlib.sha256(pixels_of(picture)).hexdigest()


def _description_hash(samples: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for s in samples:
        parts: list[Any] = [
            s.id,
            s.question,
            s.label,
            s.target,
            s.system,
            s.attack,
            s.image is None,
            _repeatable(s.facts),
            s.shots,
            s.prefill,
            *([len(s.further_images), s.turns] if s.further_images or s.turns else []),
            *([{"shots": [len(shown) for shown in s.shot_pictures]}] if s.shot_pictures else []),
        ]
        digest.update(json.dumps(parts, sort_keys=True, default=dict).encode())
    return digest.hexdigest()


def _repeatable(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Facts without the seconds that an attack took, which are others the next time."""
    budget = facts.get("budget")
    if not isinstance(budget, Mapping):
        return facts
    return {**facts, "budget": {key: budget[key] for key in budget if key != "seconds"}}


def fit_caveat(model: str, artifacts: Sequence[Artifact | None]) -> str | None:
    """A sentence if a stranger's model is defended by what was fitted on the bundled world."""
    if model in registry.names("model", builtin=True):
        return None
    known = registry.names("benchmark", builtin=True)
    bundled = {name for name in known if registry.in_bundled_world("benchmark", name)}
    names = [
        artifact.defense
        for artifact in artifacts
        if artifact is not None
        and (tasks := artifact.card.get("data", {}).get("tasks"))
        and bundled.issuperset(tasks)
    ]
    if not names:
        return None
    return (
        f"{' and '.join(names)} {'was' if len(names) == 1 else 'were'} fitted on the pictograms "
        f"that come with the package, which say little about pictures that {model} will see."
    )


def _check_texts(api: Any | None, benchmark: str, samples: Sequence[Sample]) -> None:
    if api is not None:
        found = api.host.vlm.control_tokens.placeholders
        check_placeholders(samples, found, benchmark, api.model_name)


def _described_arm(api: Any | None) -> tuple[dict[str, Any], GenerateConfig]:
    """What the log says about an arm, and how many of its samples may run at a time.

    Empty for other providers.
    """
    if api is None:
        return {}, GenerateConfig()
    arm = {
        "defense": api.arm.name,
        "identity": api.arm.identity,
        "model": api.model_name,
        "model_identity": api.model_identity,
        "forbidden": forbidden_by(artifact for _, artifact in api.arm.defenses),
    }
    if caveat := fit_caveat(api.model_name, [artifact for _, artifact in api.arm.defenses]):
        arm["caveat"] = caveat
    # Set explicitly, or Inspect starts with 20 connections and never fills a batch.
    return arm, GenerateConfig(max_connections=api.max_connections())
