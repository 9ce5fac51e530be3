"""The time cost of defenses inside the model, on enough prompts for a narrow interval.

    python benchmarks/defense_cost.py            # ten minutes on two idle CPU cores
    python benchmarks/defense_cost.py --large    # at least ten more

All arms answer every prompt right after one another, one at a time and in random order, as in
`safesight.compare.overhead`; a second undefended arm shows the noise. Two models, the second on
request:

    bundled    with the bundled artifacts, on pictures of the benchmarks: every arm of the demo
    large      a LLaVA with random weights that always writes 48 tokens; of what is fitted on it,
               only the time matters

Writes `runs/benchmarks/cost.json` and `cost_large.json`, scorecards that hold nothing
but overhead.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from provider_overhead import large_model
from results_file import RUNS, code_hash
from rich.progress import Progress

from safesight import VLM, registry
from safesight.compare import Scorecard
from safesight.compare.overhead import measure
from safesight.compare.records import Provenance
from safesight.defenses import FitData, load_defense
from safesight.files import write_text
from safesight.hosting.arms import Arm, build_arm
from safesight.judges import ExactJudge
from safesight.types import Sample
from safesight.workflows.evaluation import arms_of, demo_defenses

HARM = ("image_harm", "typographic_harm")
BENIGN = ("over_refusal", "vqa")
LARGE: dict[str, dict[str, Any]] = {"sasa": {"layers": (10, 12)}, "probe": {}, "rai": {}}
"""SASA's layers are at the depth chosen by the fit on the bundled model."""


def main() -> None:
    """Measure both models."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--n", type=int, default=100, help="number of benign and of harmful prompts"
    )
    parser.add_argument("--n-large", type=int, default=20)
    parser.add_argument("--large", action="store_true", help="the larger model as well")
    parser.add_argument("--out", type=Path, default=RUNS, help="folder for the results")
    arguments = parser.parse_args()
    vlm = VLM.load("testbed")
    arms = [build_arm(vlm, name) for name in arms_of([each.name for each in demo_defenses()])]
    written("testbed", vlm, arms, arguments.n, arguments.out / "cost.json")
    if not arguments.large:
        return
    with tempfile.TemporaryDirectory() as folder:
        large = VLM.load(large_model(Path(folder)))
        arms = [build_arm(large, "none"), *(fitted(large, name) for name in LARGE)]
        name = "LLaVA of random weights"
        written(name, large, arms, arguments.n_large, arguments.out / "cost_large.json")


def written(name: str, vlm: VLM, arms: list[Arm], n: int, path: Path) -> None:
    """Measure, print and write the results."""
    begin = time.monotonic()
    benign, harmful = shown(BENIGN, n), shown(HARM, n)
    with Progress(transient=True) as bar:
        task = bar.add_task(name, total=len(benign) + len(harmful))
        costs = measure(
            vlm, arms, benign, harmful, ExactJudge(), on_input=lambda: bar.advance(task)
        )
    notes = (
        f"code {code_hash()}, {torch.get_num_threads()} threads, "
        f"load {os.getloadavg()[0]:.1f} at the end"
    )
    card = Scorecard(
        model=name,
        seconds=round(time.monotonic() - begin, 1),
        rows=[],
        overhead=costs,
        provenance=Provenance(seed=0, model_identity=vlm.identity, notes=[notes]),
    )
    write_text(path, card.model_dump_json(indent=1) + "\n")
    for cost in costs:
        refused = cost.refused_answer_ratio
        low, high = cost.answer_low, cost.answer_high
        print(
            f"{name}, {cost.defense}: prefill {cost.prefill_ratio:.3f}, "
            f"answer {cost.answer_ratio:.3f}"
            + ("" if low is None else f" [{low:.3f}, {high:.3f}]")
            + f" n = {cost.n}"
            + (f", refused {refused:.3f} n = {cost.refused_n}" if refused is not None else ""),
            flush=True,
        )


def shown(tasks: tuple[str, ...], n: int) -> list[Sample]:
    """This many test prompts with pictures, alternating between tasks."""
    each = [
        [s for s in registry.load("benchmark", task)(2 * n, seed=0) if s.image is not None]
        for task in tasks
    ]
    return [sample for turn in zip(*each, strict=False) for sample in turn][:n]


def fitted(vlm: VLM, name: str) -> Arm:
    """Fit on a few prompts: the result of a fit on random weights does not matter."""
    harmful, benign = (
        [s for t in tasks for s in registry.load("benchmark", t)(8, seed=0, split="fit")]
        for tasks in (HARM, BENIGN)
    )
    calibration = registry.load("benchmark", "over_refusal")(30, seed=0, split="calibration")
    data = FitData(harmful, benign, calibration)
    artifact = load_defense(name, **LARGE[name]).fit(vlm, data, progress=False)
    return build_arm(vlm, name, {name: artifact})


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
