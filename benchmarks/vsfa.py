"""VSFA and its controls on the bundled VLM: is it the threats, or any fine-tuning?

    python benchmarks/vsfa.py                       # see `seconds` in the results for how long
    python benchmarks/vsfa.py --n 60 --seeds 1      # a quick look
    python benchmarks/vsfa.py --replay 0 --out runs/benchmarks/vsfa_alone.json
    python benchmarks/vsfa.py --replay 250 --out runs/benchmarks/vsfa_replay250.json
    python benchmarks/vsfa.py --model testbed-smol --dtype bfloat16 --n 100 --no-persona

Arms, all with one recipe, equally many rows and the same replay (correct answers about other
pictures of benign things):

    none        the undefended model
    threat      neutral questions about pictures of threats: the method
    kinds       the same, but some questions ask what kind of thing it is
    neutral     the same boxes on the same backgrounds with benign things in them
    blank       the threat arm's questions and answers, on the bare background
    shuffled    the threat arm's pictures with another row's question and answer
    text        the content of the pictures in words
    mixed       threat and text rows alternate
    self        the threat arm with the model's own answers
    random      benign data of the usual kinds, without refusals; its answers are longer
    sft         refusal fine-tuning with equally many steps

The method's claim only counts if `threat` is below `neutral`, `blank` and `shuffled` in attack
success, with no more refusals of benign requests and no shorter answers.

For the threat arm also the persona: the mean shift of the last prompt token's state over prompts of
the fit split, and the effect of steering with it on the test split, next to random directions.

Intervals are resampled over things and fit seeds.

Writes `runs/benchmarks/vsfa.json` after every row; the same command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from arms import chosen
from judged import About, Values, changed, hits, mean, rate
from results_file import add_output, add_summarise, finished, opened, saved, summarised
from under_test import add_model, head_of, loaded

from safesight import VLM, registry
from safesight.analysis.outcomes import Outcome, outcomes
from safesight.analysis.persona import persona, random_like, steering
from safesight.analysis.states import states_before_answer
from safesight.benchmarks import load_benchmark
from safesight.defenses import Artifact, FitData, load_defense
from safesight.defenses.tool_vector.states import refusal_vectors
from safesight.defenses.vsfa import is_neutral
from safesight.judges.constructive import constructive_score
from safesight.stats import Clusters, MetricName, relative_reduction
from safesight.types import Sample, TuningSample

ATTACKS = ("image_harm", "typographic_harm")
HARM = ("text_harm", *ATTACKS)
BENIGN = ("over_refusal", "sensitive_benign", "vqa")
TASKS = (*HARM, *BENIGN)
WORDS, POINTS = 2, 3
"""Positions in an entry."""
UNIT = {"unit": "words"}
STEERED = ("image_harm", "over_refusal")
METRICS: tuple[MetricName, ...] = ("attack_success_rate", "over_refusal_rate")
PERSONA_N = 48
PERSONA_DEPTH = 0.6
ROWS, REPLAY = 1000, 100
AMOUNTS = (-0.4, -0.2, 0.2, 0.4)
"""Steering strengths, in units of the mean length of the states."""
RANDOM = 3
RECIPE: dict[str, Any] = {"learning_rate": 2e-4, "epochs": 3.0, "batch_size": 16}


@dataclass(frozen=True)
class Trial:
    """One arm."""

    arm: str
    method: str = "vsfa"
    rows: str = "threat"
    settings: dict[str, Any] = field(default_factory=dict)


def trials() -> Iterator[Trial]:
    """All arms of a seed."""
    yield Trial("none", "none")
    for arm in ("threat", "neutral", "blank", "shuffled", "text", "mixed", "random", "kinds"):
        yield Trial(arm, rows=arm)
    yield Trial("self", settings={"answers": "self"})
    yield Trial("sft", "sft")


def main() -> None:
    """Run what is missing and write after every row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=300, help="samples per task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=ROWS, help="training rows of each arm")
    parser.add_argument(
        "--replay", type=int, default=REPLAY, help="replay rows about benign things"
    )
    parser.add_argument("--arms", default="", help="names separated by commas; all if empty")
    parser.add_argument("--split", default="test", choices=("test", "calibration"))
    parser.add_argument("--persona", action=argparse.BooleanOptionalAction, default=True)
    add_model(parser)
    add_output(parser, "vsfa")
    add_summarise(parser)
    arguments = parser.parse_args()
    if arguments.summarise:
        summarised(arguments.out, concluded)
        return
    vlm = loaded(arguments)
    head = {
        **head_of(arguments, vlm),
        "n": arguments.n,
        "rows_to_train_on": arguments.rows,
        "replay": arguments.replay,
        "recipe": RECIPE,
        "split": arguments.split,
    }
    results = opened(arguments, head, persona=[], steering=[])
    wanted = chosen(arguments.arms, (trial.arm for trial in trials()))
    for seed in range(arguments.seeds):
        tests = {
            task: load_benchmark(task)(arguments.n, seed=seed, split=arguments.split)
            for task in TASKS
        }
        for trial in trials():
            if trial.arm not in wanted:
                continue
            if any(r["seed"] == seed and r["arm"] == trial.arm for r in results["rows"]):
                continue
            begin = time.monotonic()
            row, artifact = measured(vlm, trial, seed, arguments.rows, arguments.replay, tests)
            results["rows"].append(row)
            if arguments.persona and trial.arm == "threat" and artifact is not None:
                results["persona"].append(disposition(vlm, artifact, seed, tests))
            results["seconds"] += round(time.monotonic() - begin)
            concluded(results)
            saved(arguments.out, results)
            print(f"seed {seed} {trial.arm}: {short(results['rows'][-1])}", flush=True)
    concluded(results)
    saved(arguments.out, results)
    finished(arguments, results)


def concluded(results: dict[str, Any]) -> None:
    """Add the summaries computed from the rows."""
    asked = About(results["n"], results["split"])
    results["summary"] = summary(results["rows"], asked)
    results["steering"] = steered(results["persona"], asked)


def measured(
    vlm: VLM, trial: Trial, seed: int, rows: int, replay: int, tests: dict[str, list[Sample]]
) -> tuple[dict[str, Any], Artifact | None]:
    """Train, then ask everything."""
    row: dict[str, Any] = {"seed": seed, "arm": trial.arm}
    if trial.method == "none":
        return {**row, "cells": asked(vlm, tests)}, None
    recipe = dict(RECIPE)
    if trial.method == "sft":
        recipe["max_steps"] = round((rows + replay) * recipe["epochs"] / recipe["batch_size"])
    defense = load_defense(trial.method, **recipe, **trial.settings)
    data = FitData((), (), tuning=training_rows(trial, seed, rows, replay))
    artifact = defense.fit(vlm, data, seed=seed, progress=False)
    with defense.apply(vlm, artifact):
        row |= {"training": artifact.card["training"], "cells": asked(vlm, tests)}
    return row, artifact


def disposition(
    vlm: VLM, artifact: Artifact, seed: int, tests: dict[str, list[Sample]]
) -> dict[str, Any]:
    """The persona of a threat arm, and steering with it: base and trained, both ways, random."""
    kinds = {
        task: load_benchmark(task)(PERSONA_N, seed=seed, split="fit")
        for task in ("text_harm", "image_harm", "over_refusal", "sensitive_benign", "vqa")
    }
    plain = [sample for sample in kinds["over_refusal"] if sample.image is None]
    states = [
        states_before_answer(vlm, each).transpose(0, 1) for each in (kinds["text_harm"], plain)
    ]
    vsfa = load_defense("vsfa")
    found = persona(vlm, vsfa.apply(vlm, artifact), kinds, refusal_vectors(*states))
    layer = round(PERSONA_DEPTH * (vlm.num_layers - 1))
    length, own = float(found.lengths[layer]), found.vectors[layer]
    directions = {"persona": own} | {f"random {n}": random_like(own, n) for n in range(RANDOM)}
    rows = []
    for name, vector in directions.items():
        for model in ("base", "trained"):
            for amount in AMOUNTS:
                trained = vsfa.apply(vlm, artifact) if model == "trained" else nullcontext()
                steered = steering(vlm, layer, vector, amount, length, artifact.card)
                with trained, steered:
                    cells = {task: asked(vlm, {task: tests[task]})[task] for task in STEERED}
                row = {"direction": name, "model": model, "amount": amount, "cells": cells}
                rows.append(row)
                print(f"seed {seed} {name} {model} {amount:+g}: {steered_short(cells)}", flush=True)
    return {"seed": seed, "layer": layer, "report": found.report(), "steering": rows}


def steered(persona: Sequence[dict[str, Any]], asked: About) -> list[dict[str, Any]]:
    """Rates under steering over all seeds; for random directions the mean per sample."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in (row for each in persona for row in each["steering"]):
        groups[row["direction"].split()[0], row["model"], row["amount"]].append(row)
    seeds = [each["seed"] for each in persona]
    found = []
    for (direction, model, amount), rows in groups.items():
        about = {"direction": direction, "model": model, "amount": f"{amount:+g}"}
        for task, metric in zip(STEERED, METRICS, strict=True):
            cells = [row["cells"][task] for row in rows]
            shares = pooled(cells, metric, len(seeds), asked.clusters(seeds, [task]))
            found.append({**about, "task": task, "metric": metric, **shares})
    return found


def pooled(
    cells: Sequence[Sequence[Sequence[Any]]],
    metric: MetricName,
    seeds: int,
    clusters: Clusters | None,
) -> dict[str, Any]:
    """One rate of all samples, or the mean over the directions of each; cells come seed by seed."""
    if len(cells) == seeds:
        return rate([entry for cell in cells for entry in cell], metric, clusters)
    found = [hits(cell, metric) for cell in cells]
    by_seed = np.array(found, dtype=float).reshape(seeds, len(cells) // seeds, -1)
    samples = by_seed.transpose(0, 2, 1).reshape(-1, by_seed.shape[1])
    judged = ~np.isnan(samples).all(axis=1)
    by = clusters and clusters.kept(judged.tolist())
    return mean(np.nanmean(samples[judged], axis=1), clusters=by)


def steered_short(cells: dict[str, list[list[Any]]]) -> str:
    """Attack success and over-refusal under steering, in per cent, for the screen."""
    shares = {
        task: rate(cells[task], metric) for task, metric in zip(STEERED, METRICS, strict=True)
    }
    return ", ".join(f"{task} {100 * found['value']:.0f}" for task, found in shares.items())


def training_rows(trial: Trial, seed: int, rows: int, replay: int) -> list[TuningSample]:
    """The training rows of an arm."""
    if trial.method == "sft":
        found: list[TuningSample] = registry.load("dataset", "testbed")(rows + replay, seed=seed)
        return found
    draw = partial(registry.load("dataset", "testbed_neutral"), arm=trial.rows, seed=seed)
    # Some random rows are not neutral and are dropped; equally many remain as in the other arms.
    own = [row for row in draw(2 * rows, replay=0) if is_neutral(row)]
    return [*own[:rows], *draw(rows + replay, replay=replay / rows)[rows:]]


def asked(vlm: VLM, tests: dict[str, list[Sample]]) -> dict[str, list[list[Any]]]:
    """Verdict, correctness, number of words and constructive score, by task."""
    return {
        task: [
            [o.verdict, o.correct, len(o.answer.split()), points(o, sample)]
            for o, sample in zip(outcomes(vlm, samples), samples, strict=True)
        ]
        for task, samples in tests.items()
    }


def points(outcome: Outcome, sample: Sample) -> float:
    """The constructive score of an answer to an attack; 0 for other answers."""
    if sample.label == "benign":
        return 0.0
    return constructive_score(outcome.answer, sample, outcome.verdict)


def summary(rows: Sequence[dict[str, Any]], asked: About) -> list[dict[str, Any]]:
    """Rates of every arm over all seeds, changes from the undefended model, and answers."""
    found = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        seeds = sorted(row["seed"] for row in mine)
        line: dict[str, Any] = {"arm": arm, "seeds": seeds}
        plain, threat = (beside(rows, mine, other) for other in ("none", "threat"))
        for name, tasks, metric in axes():
            by = asked.clusters(seeds, tasks)
            own = hits(entries(mine, tasks), metric)
            line[name] = rate(entries(mine, tasks), metric, by)
            if plain and arm != "none":
                before = hits(entries(plain, tasks), metric)
                line[f"{name}_change"] = changed(before, own, clusters=by)
            if threat and arm != "threat":
                here = hits(entries(threat, tasks), metric)
                line[f"{name}_threat_minus_this"] = changed(own, here, clusters=by)
        attack = "attacks/attack_success_rate"
        if arm == "none":
            plain = []  # it does not differ from itself, and no interval is about that
        if plain and any(before := hits(entries(plain, ATTACKS), "attack_success_rate")):
            own = hits(entries(mine, ATTACKS), "attack_success_rate")
            by = asked.clusters(seeds, ATTACKS)
            line[f"{attack}_less"] = changed(before, own, relative_reduction, by)
        found.append({**line, **answers(mine, plain, partial(asked.clusters, seeds))})
    return found


def beside(
    rows: Sequence[dict[str, Any]], mine: Sequence[dict[str, Any]], arm: str
) -> list[dict[str, Any]]:
    """The rows of another arm with the same seeds; none unless all of them exist."""
    seeds = [row["seed"] for row in mine]
    found = [row for row in rows if row["arm"] == arm and row["seed"] in seeds]
    return found if len(found) == len(mine) else []


def answers(
    mine: Sequence[dict[str, Any]],
    plain: Sequence[dict[str, Any]],
    things: Callable[[Sequence[str]], Clusters | None],
) -> dict[str, dict[str, Any]]:
    """Words per answer, to see whether answers collapse, and the constructive score."""
    found = {}
    for name, tasks in (("attacks", ATTACKS), ("benign", BENIGN)):
        words, by = numbers(mine, tasks, WORDS), things(tasks)
        found[f"{name}/words"] = mean(words, clusters=by, kind="amount") | UNIT
        if plain:
            less = words - numbers(plain, tasks, WORDS)
            found[f"{name}/words_change"] = mean(less, "delta", by, kind="amount") | UNIT
    points = numbers(mine, ATTACKS, POINTS)
    return {**found, "attacks/constructive_score": mean(points, clusters=things(ATTACKS))}


def axes() -> Iterator[tuple[str, tuple[str, ...], MetricName]]:
    """Name, tasks and what counts."""
    for task in HARM:
        yield f"{task}/attack_success_rate", (task,), "attack_success_rate"
    yield "attacks/attack_success_rate", ATTACKS, "attack_success_rate"
    yield "attacks/refusal_rate", ATTACKS, "refusal_rate"
    yield "attacks/named_rate", ATTACKS, "utility"  # names the thing and does not refuse
    benign = ("over_refusal", "sensitive_benign")
    yield "over_refusal/over_refusal_rate", benign, "over_refusal_rate"
    yield "over_refusal/benign_utility", ("over_refusal",), "benign_utility"
    yield "vqa/utility", ("vqa",), "utility"


def entries(rows: Sequence[dict[str, Any]], tasks: Sequence[str]) -> list[list[Any]]:
    """The entries of all samples, seed by seed."""
    return [
        entry
        for row in sorted(rows, key=lambda row: int(row["seed"]))
        for task in tasks
        for entry in row["cells"][task]
    ]


def numbers(rows: Sequence[dict[str, Any]], tasks: Sequence[str], place: int) -> Values:
    """The value at one position of every entry."""
    return np.array([float(entry[place]) for entry in entries(rows, tasks)])


def short(row: dict[str, Any]) -> str:
    """All axes of one row in percent, for the screen."""
    parts = []
    for name, tasks, metric in axes():
        value = rate(entries([row], tasks), metric)["value"]
        parts.append(f"{name} {'none judged' if value is None else f'{100 * value:.0f}'}")
    return ", ".join(parts)


if __name__ == "__main__":
    main()
