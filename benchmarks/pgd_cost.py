"""The cost of a search by gradient beyond the forward and backward passes that it needs.

    python benchmarks/pgd_cost.py            # about 5 minutes on two CPU cores

A search is 50 steps of `safesight.adversary` on 16 pictures with the bundled model: pixels put into
the model's tensors, one pass, losses, the step and its bounds. Bare are as many forward passes of
the model on the same batch, with the same loss of the answer's tokens, each differentiated with
respect to `pixel_values`. They take turns, so that a slow minute of the machine hits both. A
defense's own pass (SASA's replay) has no bare counterpart: its rows say what it adds. Writes
`runs/benchmarks/pgd_cost.json`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

import torch
from results_file import add_output, code_hash, saved

from safesight import VLM
from safesight.adversary import Budget, attacked, craft
from safesight.adversary.pixels import pixel_path
from safesight.adversary.wanted import wanted_answers
from safesight.hosting.arms import build_arm
from safesight.judges.exact import ExactJudge
from safesight.models.picture_tensors import join_pictures
from safesight.testbed import tasks
from safesight.training.losses import row_losses

ARMS = ("none", "probe", "sasa", "rai")
ROWS, STEPS = 16, 50


def main() -> None:
    """Measure every arm beside bare passes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    add_output(parser, "pgd_cost")
    arguments = parser.parse_args()
    vlm = VLM.load("testbed")
    samples = tasks.image_harm(ROWS)
    wanted = wanted_answers(vlm, samples, ExactJudge())
    rounds: list[dict[str, float]] = []
    for number in range(arguments.rounds + 1):
        names = ["bare", *ARMS]
        turned = names[number % len(names) :] + names[: number % len(names)]
        found = {name: seconds(vlm, name, samples, wanted) for name in turned}
        print({name: round(value, 2) for name, value in found.items()}, flush=True)
        if number:  # the first warms up
            rounds.append(found)
    rows = [row(name, rounds) for name in ARMS]
    head = {"rows_in_batch": ROWS, "steps": STEPS, "rounds": len(rounds)}
    machine = {"threads": torch.get_num_threads(), "load": os.getloadavg()[0]}
    saved(arguments.out, {"code": code_hash(), **head, **machine, "rows": rows})


def row(name: str, rounds: list[dict[str, float]]) -> dict[str, Any]:
    """The ratio of a search to bare passes, in the same round."""
    ratios = [found[name] / found["bare"] for found in rounds]
    return {
        "arm": name,
        "step_ms": 1000 * statistics.median(found[name] for found in rounds) / STEPS,
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def seconds(vlm: VLM, name: str, samples: Any, wanted: Any) -> float:
    """The time of one search, or of as many bare passes."""
    arm = build_arm(vlm, "none" if name == "bare" else name)
    parts = [defense.build(vlm, artifact) for defense, artifact in arm.defenses]
    with attacked(vlm, parts) as model:
        if name != "bare":
            begin = time.perf_counter()
            list(craft(model, samples, wanted, Budget(8, STEPS), batch_size=ROWS))
            return time.perf_counter() - begin
        batch = model.batch(samples, wanted)
        pictures = join_pictures([pixel_path(vlm, sample).like for sample in samples])
        labels = batch.labels[:, -batch.width - 1 :]
        begin = time.perf_counter()
        for _ in range(STEPS):
            pixels = pictures["pixel_values"].detach().requires_grad_(True)
            inputs = {**batch.inputs, **pictures, "pixel_values": pixels}
            output = vlm.model(**inputs, use_cache=False, logits_to_keep=batch.width + 1)
            torch.autograd.grad(row_losses(output.logits, labels).sum(), pixels)
        return time.perf_counter() - begin


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
