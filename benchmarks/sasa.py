"""SASA and the plain probe on the bundled VLM, each with the same prompts and the same choice.

    python benchmarks/sasa.py            # see `seconds` in the results for how long
    python benchmarks/sasa.py --n 20 --base 60 --pool 120     # a quick look

A gate never touches the answer of a prompt it lets through (a contract test holds that bit for
bit), so the undefended answers are generated and judged once, the features of every block and of
every pair of blocks are read once (`gate_features`), and each gate is fitted and asked on those.
Writes `runs/benchmarks/sasa.json` after every seed; the same command resumes where it stopped.

Choices (block, pair, threshold) are made on the fit and calibration splits, with the code and the
settings of the defenses; the test split only reports. Three seeds draw the prompts of a fit.

sizes     8 to all prompts of the pool, half of them harmful: the probe at the last block, at the
          block it chooses and at SASA's two blocks; SASA at its preferred pair and at the one it
          chooses;
layers    the probe at every block, SASA at every pair, at three sizes;
rows      fitted on 1000 prompts, on all but one way of conveying the object, and the controls:
          shuffled labels, the other projection, logits, the settings of a re-implementation, no
          typographic pictures among the benign ones. SASA has its preferred pair here.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gates
import numpy as np
import torch
from gate_features import all_blocks, all_pairs, features_of
from gates import Prompts, Refused, fitted
from judged import table_mean
from results_file import add_output, add_summarise, measured, opened, summarised
from under_test import add_model, head_of, loaded

from safesight import VLM, registry
from safesight.defenses import FitData
from safesight.defenses.sasa import SASAConfig, candidate_layers
from safesight.defenses.shared.block_gate import candidate_blocks

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
COMPARED = (32, 128, 512)
"""Sizes at which every block and every pair is tested."""
SEEDS = 3
FITTED = 1000
"""Prompts of the fits that leave a kind out; as many as `safesight fit` uses by default."""
GAINS = {"gain": "probe, chosen block", "gain_over_last": "probe, last block"}
"""Tables of changes, and the arm that each is against."""
SUMMED = {"sasa, chosen pair": "{}", "probe, last block": "probe {}"}
"""Arms whose missed attacks are in the summary, and what they are called there, by size."""
POOL = {"text_harm": 1000, "image_harm": 1000, "typographic_harm": 1000}
POOL_BENIGN = {"over_refusal": 3000, "sensitive_benign": 1000, "vqa": 1000}
CALIBRATION = {"over_refusal": 240, "sensitive_benign": 80, "vqa": 80}


@dataclass(frozen=True)
class World:
    """Features of all prompts, read once."""

    pool: Prompts
    base: list[int]
    """Rows of the pool that have the features of every pair."""
    calibration: Prompts
    test: gates.Asked
    pair: str
    """The pair that SASA prefers."""
    blocks: list[str]
    """The blocks that the probe compares, the last one first."""
    pairs: list[str]
    """The pairs that SASA compares, the preferred one first."""
    every: list[str]
    """All blocks and all pairs."""


def main() -> None:
    """Run the seeds that are missing and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_world(parser)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    add_output(parser, "sasa")
    add_summarise(parser)
    arguments = parser.parse_args()
    if arguments.summarise:
        summarised(arguments.out, summarize)
        return
    vlm = loaded(arguments)
    head = {
        **head_of(arguments, vlm),
        "n": arguments.n,
        "base": arguments.base,
        "pool": arguments.pool,
        "calibration": CALIBRATION,
        "margin": SASAConfig().margin,
    }
    names = ("curve", *GAINS, "every", "summary", "kinds")
    tables: dict[str, list[Any]] = {name: [] for name in names}
    results = opened(arguments, head, sizes=[], layers=[], **tables)
    world = read_world(vlm, arguments, arguments.out.with_suffix(".features"))

    def measure(seed: int) -> None:
        results["sizes"] += list(by_size(world, seed))
        results["layers"] += list(by_layer(world, seed))
        results["rows"] += list(by_kind(vlm, world, seed))

    done = {row["seed"] for row in results["rows"]}
    parts = [
        (f"seed {seed}", partial(measure, seed))
        for seed in range(arguments.seeds)
        if seed not in done
    ]
    measured(arguments, results, parts, summarize)


def add_world(parser: argparse.ArgumentParser) -> None:
    """The options that `read_world` takes."""
    parser.add_argument("--n", type=int, default=200, help="test prompts per task")
    parser.add_argument("--base", type=int, default=540, help="prompts with every pair's feature")
    parser.add_argument("--pool", type=int, default=1750, help="prompts to fit on at most")
    add_model(parser)


def read_world(vlm: VLM, arguments: argparse.Namespace, folder: Path) -> World:
    """Draw the prompts, read their features and answer the test prompts undefended.

    Args:
        vlm: The model under test.
        arguments: How many prompts: `n`, `base` and `pool`.
        folder: Where features are kept.
    """
    name = "pair {} {}".format
    pairs = [name(*pair) for pair in candidate_layers(vlm.num_layers, SASAConfig())]
    blocks = [f"block {layer}" for layer in candidate_blocks(vlm.num_layers, "auto")]
    few = [*all_blocks(vlm), pairs[0], pairs[0].replace("pair", "swapped")]
    every = [*all_blocks(vlm), *dict.fromkeys([*all_pairs(vlm), *pairs])]
    wanted = [*every, few[-1]]
    pool = draw(arguments.pool)
    half = arguments.base // 2
    harmful = [row for row, sample in enumerate(pool) if sample.label == "harmful"][:half]
    benign = [row for row, sample in enumerate(pool) if sample.label == "benign"][:half]
    base = sorted([*harmful, *benign])
    rest = [row for row in range(len(pool)) if row not in set(base)]
    held_out = [
        sample
        for task, n in CALIBRATION.items()
        for sample in registry.load("benchmark", task)(n, split="calibration")
    ]
    test = gates.test_prompts(arguments.n)
    calibration = Prompts(held_out, features_of(vlm, held_out, wanted, folder))
    asked = gates.ask(vlm, Prompts(test, features_of(vlm, test, wanted, folder)), folder)
    full = features_of(vlm, [pool[row] for row in base], wanted, folder)
    # SASA compares its pairs on at most 500 prompts. The rest of the pool is only fitted on, so it
    # has the features of the blocks, of the preferred pair and of those that some seed chooses.
    base_prompts = Prompts([pool[row] for row in base], full)
    liked = {gates.chosen(base_prompts, pairs, seed) for seed in range(SEEDS)}
    others = [pool[row] for row in rest]
    some = features_of(vlm, others, few, folder)
    if more := sorted(liked - {pairs[0]}):
        some |= features_of(vlm, others, more, folder)
    features = {}
    for key in wanted:
        table = full[key].new_full((len(pool), full[key].shape[1]), torch.nan)
        table[base] = full[key]
        if key in some:
            table[rest] = some[key]
        features[key] = table
    return World(Prompts(pool, features), base, calibration, asked, pairs[0], blocks, pairs, every)


def draw(count: int) -> list[Any]:
    """Prompts of the fit split in random order, balanced over labels, attacks and kinds."""
    everything = [
        sample
        for task, n in {**POOL, **POOL_BENIGN}.items()
        for sample in registry.load("benchmark", task)(n, split="fit")
    ]
    data = FitData.from_pool(everything, share=count / len(everything))
    found = [*data.harmful, *data.benign]
    random.Random(0).shuffle(found)
    return found


def by_size(world: World, seed: int) -> Iterator[dict[str, Any]]:
    """Every arm at every size; whom it refuses, one digit per test prompt."""
    for size in [*(n for n in SIZES if n < len(world.pool.samples)), len(world.pool.samples)]:
        rows = some_rows(world, size, seed)
        compared = rows if size <= len(world.base) else world.base
        pair = gates.chosen(world.pool.at(compared), world.pairs, seed)
        block = gates.chosen(world.pool.at(rows), world.blocks, seed)
        s, f = pair.split()[1:]
        arms = {
            "probe, last block": world.blocks[0],
            "probe, chosen block": block,
            "probe, SASA's s": f"block {s}",
            "probe, SASA's f": f"block {f}",
            "sasa, preferred pair": world.pair,
            "sasa, chosen pair": pair,
        }
        for arm, key in arms.items():
            gate = fitted(world.pool.at(rows), key, world.calibration, seed)
            yield {"seed": seed, "size": size, "arm": arm, **gates.told(gate.ask(world.test))}


def some_rows(world: World, size: int, seed: int) -> list[int]:
    """Rows of the pool, half of them harmful if there are enough, from the base while it lasts."""
    if size >= len(world.pool.samples):
        return list(range(len(world.pool.samples)))
    among = world.base if size <= len(world.base) else range(len(world.pool.samples))
    rng = random.Random(seed)
    found: list[int] = []
    for label in ("harmful", "benign"):
        rows = [row for row in among if world.pool.samples[row].label == label]
        found += rng.sample(rows, min(len(rows), size // 2))
    return sorted(found)


def by_layer(world: World, seed: int) -> Iterator[dict[str, Any]]:
    """The probe at every block, SASA at every pair."""
    for size in COMPARED:
        if size > len(world.base):
            continue
        rows = some_rows(world, size, seed)
        for key in world.every:
            gate = fitted(world.pool.at(rows), key, world.calibration, seed)
            found = gates.told(gate.ask(world.test))
            yield {"seed": seed, "size": size, "key": key, "missed": found["missed"]}


def by_kind(vlm: VLM, world: World, seed: int) -> Iterator[dict[str, Any]]:
    """Fits without one way of conveying the object, and the controls."""
    open_to_all = gates.letters_of(world.test, [False] * len(world.test.verdicts))
    yield {"seed": seed, "arm": "none", "left_out": "none", "letters": open_to_all}
    for left_out in ("none", *gates.HARM):
        rows = gates.without(world.pool.samples, left_out, FITTED, seed)
        held_out = gates.without(world.calibration.samples, left_out, 0, seed)
        known, calibration = world.pool.at(rows), world.calibration.at(held_out)
        arms = {"probe": gates.chosen(known, world.blocks, seed), "sasa": world.pair}
        for arm, key in arms.items():
            gate = fitted(known, key, calibration, seed)
            yield row_of(world, seed, arm, left_out, len(rows), gate.ask(world.test))
    rows = gates.without(world.pool.samples, "none", FITTED, seed)
    known = world.pool.at(rows)
    samples = known.samples
    wordless = [
        row
        for row, sample in zip(rows, samples, strict=True)
        if sample.label == "harmful" or sample.facts["picture"] != "word"
    ]
    unseen = gates.without(world.pool.samples, "image_harm", FITTED, seed)
    logits = {"vlm": vlm, "logits": True}
    secondary = {**logits, "C": 1.0, "standardize": False}
    swapped = world.pair.replace("pair", "swapped")
    for arm, left_out, used, key, more in (
        ("shuffled labels", "none", rows, world.pair, {"shuffled": True}),
        ("no benign words", "none", wordless, world.pair, {}),
        ("f_on_s", "none", rows, swapped, {}),
        ("logits", "none", rows, world.pair, logits),
        ("re-implemented", "none", rows, world.pair, secondary),
        ("re-implemented", "image_harm", unseen, world.pair, secondary),
    ):
        held_out = gates.without(world.calibration.samples, left_out, 0, seed)
        gate = fitted(world.pool.at(used), key, world.calibration.at(held_out), seed, **more)
        yield row_of(world, seed, arm, left_out, len(used), gate.ask(world.test))


def row_of(
    world: World, seed: int, arm: str, left_out: str, count: int, refused: Refused
) -> dict[str, Any]:
    """One row of the table of kinds."""
    about = {"seed": seed, "arm": arm, "left_out": left_out, "fitted": count, "key": refused.key}
    return {**about, "letters": gates.letters_of(world.test, refused.refuse)}


def summarize(results: dict[str, Any]) -> None:
    """The tables: intervals resampled over things and seeds."""
    test = gates.test_prompts(results["n"])
    about = gates.things_of(test)
    results |= {name: [] for name in ("curve", *GAINS, "every", "summary", "kinds")}
    for arm, left_out in dict.fromkeys((row["arm"], row["left_out"]) for row in results["rows"]):
        rows = select(results["rows"], arm=arm, left_out=left_out)
        label = {"arm": arm, "left out": left_out, "fitted on": rows[0].get("fitted", "")}
        for name, cell in gates.cells_of([row["letters"] for row in rows], test).items():
            task, _, metric = name.partition("/")
            results["kinds"].append({**label, "task": task, "metric": metric, **cell})
    sizes = sorted({row["size"] for row in results["sizes"]})
    arms = list(dict.fromkeys(row["arm"] for row in results["sizes"]))
    for size in sizes:
        of_arm = {arm: select(results["sizes"], size=size, arm=arm) for arm in arms}
        for metric, things in about.items():
            outcomes = {arm: [[*map(int, row[metric])] for row in of_arm[arm]] for arm in arms}
            for arm in arms:
                cell = table_mean(outcomes[arm], things)
                results["curve"].append(labelled(size, arm, metric, cell))
                changes = {
                    name: table_mean(np.subtract(outcomes[arm], outcomes[base]), things, "delta")
                    for name, base in GAINS.items()
                }
                for name, change in changes.items():
                    results[name].append(labelled(size, arm, metric, change))
                if metric == "missed" and arm in SUMMED:
                    name = SUMMED[arm].format(size)
                    results["summary"].append({"arm": name, "missed": cell, **changes})
        for arm in arms:
            areas = [row["auroc"] for row in of_arm[arm]]
            results["curve"].append(labelled(size, arm, "auroc", gates.spread(areas)))
    for size in sorted({row["size"] for row in results["layers"]}):
        of_size = select(results["layers"], size=size)
        for key in dict.fromkeys(row["key"] for row in of_size):
            rows = select(of_size, key=key)
            missed = [[*map(int, row["missed"])] for row in rows]
            cell = table_mean(missed, about["missed"])
            results["every"].append({"layers": key, "task": str(size), "metric": "missed", **cell})


def labelled(size: int, arm: str, metric: str, cell: dict[str, Any]) -> dict[str, Any]:
    """A cell as `fill: pivot` reads it."""
    return {"prompts": f"{size:,}", "task": arm, "metric": metric, **cell}


def select(rows: Sequence[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """The rows that have these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
