"""The cost of an unlearning step beyond the forward and backward passes it needs.

    python benchmarks/step_cost.py            # a few minutes on two CPU cores

A step is everything between two steps of the Trainer: drawing rows, opening pictures, padding,
losses, the optimizer, the log. The passes are those of the method, on the same prepared batches:

    npo     three forward and backward passes: forget, retain, retain again; the base model's
            losses were computed in the first epoch and are looked up
    rmu     one forward and backward pass, one of each up to the block, and one forward up to it

Fits and passes take turns, so that a slow minute of the machine hits both. Writes
`runs/benchmarks/step_cost.json`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from provider_overhead import large_model
from results_file import add_output, code_hash, saved

from safesight import VLM, registry
from safesight.defenses import FitData, load_defense
from safesight.training.batches import Collator, Draws
from safesight.training.choice import choose
from safesight.training.passes import Batch, Passes
from safesight.training.trainer import TuningLog
from safesight.training.weights import installed
from safesight.types import TuningSample

SEED = 0
EPOCH, EPOCHS = 4, 4
"""Steps per epoch, and epochs; the first, which also runs the base model, does not count."""
BATCH = {"bundled": 16, "large": 4}


def main() -> None:
    """Measure every method on both models."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-large", action="store_true", help="only the bundled model")
    add_output(parser, "step_cost")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = {"bundled": lambda: "testbed", "large": lambda: large_model(Path(folder))}
        for case, model in models.items():
            if case == "large" and arguments.skip_large:
                continue
            vlm = VLM.load(model())
            for name, passes in (("npo", npo_passes), ("rmu", rmu_passes)):
                rows.append(compared(case, vlm, name, passes, arguments.rounds))
                line = "{case} {defense}: {step_ms:.0f} ms per step, ratio {ratio:.3f}"
                print(line.format(**rows[-1]), flush=True)
    saved(arguments.out, {"code": code_hash(), "rows": rows})


def compared(
    case: str, vlm: VLM, name: str, passes: Callable[[Passes, Batch], None], rounds: int
) -> dict[str, Any]:
    """Steps and bare passes in turn; medians over rounds."""
    batch = BATCH[case]
    data = training_rows(EPOCH * batch)
    ratios, steps = [], []
    for _ in range(rounds):
        bare = bare_seconds(vlm, name, data, batch, passes)
        whole = step_seconds(vlm, name, data, batch)
        ratios.append(whole / bare)
        steps.append(whole)
    return {
        "case": case,
        "defense": name,
        "batch": batch,
        "rounds": rounds,
        "steps": EPOCH * (EPOCHS - 1),
        "step_ms": 1000 * statistics.median(steps),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }


def training_rows(each: int) -> list[TuningSample]:
    """As many forget rows as retain rows."""
    pool: list[TuningSample] = registry.load("dataset", "testbed")(6 * each, seed=SEED)
    return [r for kind in ("forget", "retain") for r in [r for r in pool if r.set == kind][:each]]


def step_seconds(vlm: VLM, name: str, data: list[TuningSample], batch: int) -> float:
    """The time of one step of the Trainer, after the first epoch."""
    times: list[float] = []
    write = TuningLog.add

    def timed(log: TuningLog, entry: dict[str, float]) -> None:
        write(log, entry)
        times.append(time.perf_counter())

    defense = load_defense(name, batch_size=batch, max_steps=EPOCH * EPOCHS)
    with mock.patch.object(TuningLog, "add", timed):
        defense.fit(vlm, FitData((), (), tuning=data), seed=SEED, progress=False)
    return (times[-1] - times[EPOCH - 1]) / (len(times) - EPOCH)


def bare_seconds(
    vlm: VLM,
    name: str,
    data: list[TuningSample],
    batch: int,
    passes: Callable[[Passes, Batch], None],
) -> float:
    """The time of the passes of one step, on the batches of the same steps."""
    with training(vlm, name) as (bench, parameters):
        batches = list(made(vlm, data, batch))
        for each in batches[:EPOCH]:
            passes(bench, each)
        begin = time.perf_counter()
        for each in batches[EPOCH:]:
            passes(bench, each)
            for parameter in parameters:
                parameter.grad = None
        return (time.perf_counter() - begin) / (len(batches) - EPOCH)


@contextmanager
def training(vlm: VLM, name: str) -> Iterator[tuple[Passes, list[torch.nn.Parameter]]]:
    """The model in training mode, with its trained parameters installed."""
    choice = choose(vlm, load_defense(name).config)
    with installed(vlm, choice, training=True) as result:
        vlm.model.train()
        yield Passes(vlm, result), list(result.parameters.values())


def made(vlm: VLM, data: list[TuningSample], batch: int) -> Iterator[Batch]:
    """The batches of a fit, in the same order."""
    forget = [row for row in data if row.set == "forget"]
    retain = [row for row in data if row.set == "retain"]
    sources = {"forget": forget, "retain": retain, "again": retain}
    draws = Draws(sources, length=EPOCH * EPOCHS * batch, seed=SEED)
    collator = Collator(vlm)
    for start in range(0, len(draws), batch):
        yield collator([draws[n] for n in range(start, start + batch)])


def npo_passes(bench: Passes, batch: Batch) -> None:
    """The passes NPO needs."""
    for rows in batch.values():
        bench.cross_entropy(rows).backward()


def rmu_passes(bench: Passes, batch: Batch) -> None:
    """The passes RMU needs."""
    layer = round(7 / 32 * bench.vlm.num_layers)
    bench.cross_entropy(batch["retain"]).backward()
    for name in ("forget", "again"):
        bench.states(batch[name], layer).float().square().mean().backward()
    with bench.reference():
        bench.states(batch["again"], layer)


if __name__ == "__main__":
    torch.manual_seed(SEED)
    main()
