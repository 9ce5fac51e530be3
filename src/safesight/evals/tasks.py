"""Every registered benchmark as an Inspect task.

A task's data set holds descriptions only. A picture is rendered when its sample starts, added to
the conversation as a PNG, and dropped with the sample, so memory does not grow with the number of
pictures. If a sample has several shots, each is asked alone, but it remains one sample: its output
has one choice per shot. The version of a task contains the identity of the arm that answers it,
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
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Content,
    ContentImage,
    ContentText,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.scorer import Metric
from inspect_ai.solver import Generate, Solver, TaskState, generate, solver

from safesight import registry
from safesight.benchmarks import Benchmark, describe_benchmark, draw_samples, published_as
from safesight.errors import InputError, SafesightError
from safesight.evals.active import active_api
from safesight.evals.house_rules import forbidden_by
from safesight.evals.messages import data_uri
from safesight.evals.placeholders import check_placeholders
from safesight.evals.scorers import grouped_utility, metrics_for, verdict
from safesight.evals.session import failed, once, planned
from safesight.fitting.facts import parsed_facts
from safesight.grammar import UNDEFENDED, task_parts
from safesight.judges.scope import judge_for
from safesight.types import Message, Sample

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
        setup=_asking(by_id),
        solver=_shooting(by_id) if any(s.shots for s in samples) else generate(),
        scorer=verdict(judge),
        metrics=[*_metrics(samples, published)],
        config=_with_length(config, published),
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


def _metrics(samples: Sequence[Sample], published: Benchmark | None) -> list[Metric]:
    paired = published is not None and published.spec.paired
    return [*metrics_for(samples), *([grouped_utility()] if paired else [])]


def _with_length(config: GenerateConfig, published: Benchmark | None) -> GenerateConfig:
    """With the length of answers that the benchmark sets; an option of the run replaces it."""
    if published is None:
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


def _asking(samples: Mapping[str, Sample]) -> Solver:
    """A solver that sets a sample's conversation, with the picture rendered on the spot."""

    # No arguments: Inspect would copy them into the log and the task's identity.
    @solver
    def ask() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            try:
                state.messages = _conversation(samples[str(state.sample_id)])
            except SafesightError as error:
                failed(error)
                raise
            return state

        return solve

    return ask()


def _shooting(samples: Mapping[str, Sample]) -> Solver:
    """A solver that asks the shots of a sample one after the other.

    They need not run concurrently: shots of other samples fill the batches.
    """

    @solver
    def shoot() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            sample = samples[str(state.sample_id)]
            outputs: list[ModelOutput] = []
            for question in sample.shots or (sample.question,):
                if outputs:
                    state.messages = _conversation(sample.reworded(question))
                state = await generate(state)
                outputs.append(state.output)
            if len(outputs) > 1:
                state.output = _together(outputs)
            return state

        return solve

    return shoot()


def _together(outputs: Sequence[ModelOutput]) -> ModelOutput:
    """One output with one choice per shot, and the token counts of all of them."""
    usages = [output.usage for output in outputs if output.usage is not None]
    total = {
        name: sum(getattr(usage, name) for usage in usages)
        for name in ("input_tokens", "output_tokens", "total_tokens")
    }
    return outputs[0].model_copy(
        update={
            "choices": [choice for output in outputs for choice in output.choices[:1]],
            "usage": ModelUsage(**total) if usages else None,
        }
    )


def _conversation(sample: Sample) -> list[ChatMessage]:
    turns: list[ChatMessage] = []
    for turn in _rendered(sample):
        if turn["role"] == "system":  # as text, which is how logs show it
            turns.append(ChatMessageSystem(content=turn["content"][0]["text"], source="input"))
        elif turn["role"] == "user":
            turns.append(ChatMessageUser(content=_parts(turn), source="input"))
        else:
            turns.append(ChatMessageAssistant(content=_parts(turn), source="input"))
    if sample.prefill is not None:
        turns[-1] = ChatMessageAssistant(content=sample.prefill, source="input")
    return turns


def _rendered(sample: Sample) -> list[Message]:
    try:
        return sample.messages()
    except OSError as error:
        raise _unreadable(sample, error) from error


def _parts(turn: Message) -> list[Content]:
    return [
        ContentText(text=part["text"])
        if part["type"] == "text"
        else ContentImage(image=data_uri(part["image"]))
        for part in turn["content"]
    ]


def _unreadable(sample: Sample, error: OSError) -> InputError:
    return InputError(
        f"The picture of sample {sample.id!r} cannot be read ({error}). "
        "Replace it, or leave the sample out."
    )


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
    try:
        return [_pixels(picture()) for picture in sample.pictures]
    except OSError as error:
        raise _unreadable(sample, error) from error


def _pixels(picture: Image) -> str:
    # Hash raw pixels, not an encoded file, which could change with the codec's version.
    content = f"{picture.mode}{picture.size}".encode() + picture.tobytes()
    return hashlib.sha256(content).hexdigest()


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
            s.facts,
            s.shots,
            s.prefill,
            *([len(s.further_images), s.turns] if s.further_images or s.turns else []),
        ]
        digest.update(json.dumps(parts, sort_keys=True, default=dict).encode())
    return digest.hexdigest()


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
