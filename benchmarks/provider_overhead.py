"""The overhead of an evaluation through Inspect over the bare batched `generate` loop.

Both ask the same samples, in batches of the same size, on one copy of the weights, and
take turns, so that a slow minute of the machine hits both. Prints one line per case and writes
`runs/benchmarks/provider_overhead.json`. With `--memory` it measures the growth of the process
instead, over runs of 200 and of 2000 samples, and writes `provider_memory.json`.

    python benchmarks/provider_overhead.py
    python benchmarks/provider_overhead.py --memory
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from results_file import RUNS

from safesight.files import write_text

BATCH = 32
LARGE_HIDDEN, LARGE_LAYERS = 768, 12


class Spent(NamedTuple):
    """Wall-clock seconds, and CPU seconds of all threads of this process."""

    wall: float
    cpu: float

    @classmethod
    def since(cls, start: Spent | None = None) -> Spent:
        """The current time, or the time since a start."""
        now = cls(time.perf_counter(), time.process_time())
        return now if start is None else cls(now.wall - start.wall, now.cpu - start.cpu)


def bare(served, samples, max_new_tokens: int) -> Spent:
    """The plain loop: render, encode, generate, decode, batch by batch."""
    start = Spent.since()
    with served.lock:
        for first in range(0, len(samples), BATCH):
            batch = [sample.messages() for sample in samples[first : first + BATCH]]
            served.vlm.answer(batch, max_new_tokens=max_new_tokens)
    return Spent.since(start)


def through_inspect(model: str, task: str, n: int) -> Spent:
    """The same through `run_eval`: provider, task, judge, log."""
    from safesight.evals import run_eval

    with tempfile.TemporaryDirectory() as folder:
        start = Spent.since()
        run_eval(model, ["none"], [task], limit=n, log_dir=folder, batch_size=BATCH, progress=False)
        return Spent.since(start)


def compare(name: str, model: str, *, task: str, n: int, rounds: int, tokens: int) -> dict:
    """Interleaved rounds; the ratio of each round, and their median."""
    from safesight import registry
    from safesight.hosting.hosts import host

    served = host(model)
    served.vlm.model.generation_config.max_new_tokens = tokens
    samples = registry.load("benchmark", task)(n, seed=0)
    bare(served, samples[:BATCH], tokens)
    through_inspect(model, task, BATCH)
    loop, inspect = [], []
    for _ in range(rounds):
        loop.append(bare(served, samples, tokens))
        inspect.append(through_inspect(model, task, n))
    ratios = [b.wall / a.wall for a, b in zip(loop, inspect, strict=True)]
    result = {
        "case": name,
        "samples": n,
        "batch": BATCH,
        "rounds": rounds,
        "bare_ms_per_answer": 1000 * statistics.median(a.wall for a in loop) / n,
        "inspect_ms_per_answer": 1000 * statistics.median(b.wall for b in inspect) / n,
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "bookkeeping_cpu_ms": 1000
        * statistics.median(b.cpu - a.cpu for a, b in zip(loop, inspect, strict=True))
        / n,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "load": os.getloadavg()[0],
    }
    print(
        f"{name}: bare {result['bare_ms_per_answer']:.1f} ms, through Inspect "
        f"{result['inspect_ms_per_answer']:.1f} ms per answer, ratio {result['ratio']:.2f} "
        f"[{result['ratio_low']:.2f}, {result['ratio_high']:.2f}], bookkeeping "
        f"{result['bookkeeping_cpu_ms']:.1f} ms of CPU per answer; n = {n}, {rounds} rounds, "
        f"load {result['load']:.1f}"
    )
    return result


def large_model(folder: Path) -> str:
    """A random-weight LLaVA with the bundled tokenizer that takes over 100 ms per answer."""
    import shutil

    import torch
    from transformers import AutoConfig, LlavaForConditionalGeneration

    from safesight import registry

    source = Path(registry.load("model", "testbed"))
    for file in source.iterdir():
        if not file.name.endswith((".safetensors", "config.json")) or "token" in file.name:
            shutil.copy(file, folder)
    for name in ("processor_config.json", "generation_config.json"):
        shutil.copy(source / name, folder)
    config = AutoConfig.from_pretrained(source)
    text = config.text_config
    text.hidden_size, text.num_hidden_layers = LARGE_HIDDEN, LARGE_LAYERS
    text.intermediate_size = 4 * LARGE_HIDDEN
    text.num_attention_heads = text.num_key_value_heads = 16
    text.head_dim = LARGE_HIDDEN // 16
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    return str(folder)


def resident_mb() -> float:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(row for row in status.splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def memory_of(n: int) -> dict:
    """Peak resident memory above the loaded model, for one run in this process."""
    from safesight.hosting.hosts import host

    host("testbed").vlm.model.generation_config.max_new_tokens = 4
    through_inspect("testbed", "image_harm", 64)
    base, peak, done = resident_mb(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    through_inspect("testbed", "image_harm", n)
    done.set()
    watcher.join()
    return {"samples": n, "base_mb": base, "growth_mb": peak - base}


def memory() -> list[dict]:
    """One process per size, so that one run's memory does not mask the next one's."""
    results = []
    for n in (200, 2000):
        command = [sys.executable, __file__, "--memory-of", str(n)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        results.append(json.loads(output.splitlines()[-1]))
        print(f"{n} samples: {results[-1]['growth_mb']:.1f} MB above the loaded model")
    slope = (results[1]["growth_mb"] - results[0]["growth_mb"]) / 1.8
    print(f"growth: {slope:.1f} kB per sample")
    return results


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="another file for the results")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=320)
    parser.add_argument("--skip-large", action="store_true", help="only the bundled model")
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(memory_of(arguments.memory_of)))
        return
    if arguments.memory:
        results = memory()
    else:
        n, rounds = arguments.samples, arguments.rounds
        results = [compare("bundled", "testbed", task="image_harm", n=n, rounds=rounds, tokens=48)]
        if not arguments.skip_large:
            with tempfile.TemporaryDirectory() as folder:
                large = large_model(Path(folder))
                results.append(
                    compare("large", large, task="image_harm", n=96, rounds=3, tokens=16)
                )
    default = "provider_memory.json" if arguments.memory else "provider_overhead.json"
    write_text(arguments.out or RUNS / default, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
