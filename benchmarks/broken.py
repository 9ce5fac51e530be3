"""Tests for broken text that need no grammar, compared with the grammar of the bundled VLM.

    python benchmarks/broken.py           # some ten minutes on two CPU cores
    python benchmarks/broken.py --n 20    # a quick look

The bundled VLM has a language with a grammar, so it is known of each of its answers whether it is
broken. The arms answer the same samples: the undefended model, and defenses that leave its language
alone or damage it. Two tests that work on any model read the same answers:

looks        `safesight.judges.broken.looks_broken`: loops, repetition, debris of calls and markup
likelihood   `safesight.analysis.fluency.mean_nll` under the undefended model, above a threshold

The threshold is the one with the largest sum of sensitivity and specificity on the calibration
split, over all arms and with another seed; the limits of `looks` were set beforehand. Sensitivity
is the fraction of broken answers that a test finds, specificity the fraction of others that it lets
pass, both on the test split with Wilson intervals over answers. Writes
`runs/benchmarks/broken.json` after every arm; the same command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from results_file import add_output, finished, opened, saved
from sklearn.metrics import roc_auc_score

from safesight import VLM, registry
from safesight.analysis.fluency import best_threshold, mean_nll
from safesight.analysis.outcomes import outcomes
from safesight.defenses import load_defense
from safesight.grammar import BUNDLED
from safesight.judges.broken import is_broken, looks_broken
from safesight.stats import wilson
from safesight.stats.areas import newcombe
from safesight.types import Sample

TASKS = ("text_harm", "image_harm", "typographic_harm", "over_refusal", "sensitive_benign")
ARMS = ("none", "sft", "npo", "rmu", "image_tools", "coca", "shiftdc")
SEEDS = {"calibration": 1, "test": 0}
"""The splits, the one that chooses first, and their seeds."""

Entry = tuple[bool, bool, float]
"""What is known of one answer: broken by the grammar, broken by its looks, and its mean negative
log-likelihood."""


def main() -> None:
    """Run every arm that is missing on both splits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=80, help="samples a task and split")
    add_output(parser, "broken")
    arguments = parser.parse_args()
    vlm = VLM.load(BUNDLED)
    head = {"identity": vlm.identity, "n": arguments.n, "seeds": SEEDS}
    results = opened(arguments, head)
    for split in SEEDS:
        for arm in ARMS:
            if any((row["split"], row["arm"]) == (split, arm) for row in results["rows"]):
                continue
            begin = time.monotonic()
            cells = measured(vlm, arm, split, arguments.n)
            results["rows"].append({"split": split, "arm": arm, "cells": cells})
            results["seconds"] += round(time.monotonic() - begin)
            saved(arguments.out, results)
            shown = ", ".join(f"{t} {sum(e[0] for e in found)}" for t, found in cells.items())
            print(f"{split} {arm}: broken {shown}", flush=True)
    results |= concluded(results["rows"])
    saved(arguments.out, results)
    finished(arguments, results)


def measured(vlm: VLM, arm: str, split: str, n: int) -> dict[str, list[Entry]]:
    """What the three tests say of every answer of an arm, by task."""
    asked = {
        task: registry.load("benchmark", task)(n, seed=SEEDS[split], split=split) for task in TASKS
    }
    with nullcontext() if arm == "none" else load_defense(arm).apply(vlm):
        pairs = {
            task: [
                (found.answer, sample)
                for found, sample in zip(outcomes(vlm, samples), samples, strict=True)
            ]
            for task, samples in asked.items()
        }
    return {task: read(vlm, answers) for task, answers in pairs.items()}


def read(vlm: VLM, answers: Sequence[tuple[str, Sample]]) -> list[Entry]:
    """One entry per answer; the model is undefended."""
    return [
        (is_broken(answer, sample, BUNDLED), looks_broken(answer), round(value, 4))
        for (answer, sample), value in zip(answers, mean_nll(vlm, answers), strict=True)
    ]


def concluded(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The threshold from the calibration split, and the error of both tests on the test split."""
    known = entries_of(rows, "calibration")
    threshold = best_threshold([entry[2] for entry in known], [entry[0] for entry in known])
    lines = [line("all arms", entries_of(rows, "test"), threshold)]
    for row in rows:
        if row["split"] == "test":
            name = "undefended" if row["arm"] == "none" else row["arm"]
            by_task = {
                f"broken, {task}": share([entry[0] for entry in entries])
                for task, entries in row["cells"].items()
            }
            lines.append({**line(name, entries_of([row], "test"), threshold), **by_task})
    return {"threshold": threshold, "summary": lines}


def entries_of(rows: Sequence[dict[str, Any]], split: str) -> list[Entry]:
    """The entries of these rows on a split, task by task."""
    return [
        tuple(entry)
        for row in rows
        if row["split"] == split
        for entries in row["cells"].values()
        for entry in entries
    ]


def line(arm: str, entries: Sequence[Entry], threshold: float) -> dict[str, Any]:
    """How often an arm is broken, and how both tests do on it."""
    truth = [entry[0] for entry in entries]
    found: dict[str, Any] = {"arm": arm, "broken": share(truth)}
    tests = {
        "looks": [entry[1] for entry in entries],
        "likelihood": [entry[2] >= threshold for entry in entries],
    }
    tests["either"] = [any(both) for both in zip(*tests.values(), strict=True)]
    for name, said in tests.items():
        pairs = list(zip(truth, said, strict=True))
        found[f"{name} finds"] = share([hit for wrong, hit in pairs if wrong])
        found[f"{name} passes"] = share([not hit for wrong, hit in pairs if not wrong])
    if 0 < sum(truth) < len(truth):
        area = float(roc_auc_score(truth, [min(entry[2], 1e3) for entry in entries]))
        low, high = newcombe(area, sum(truth), len(truth) - sum(truth))
        found["likelihood area"] = {"value": area, "low": low, "high": high, "unit": "area"}
    return found


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """A fraction with its interval; without answers there is none."""
    found = vars(wilson(sum(hits), len(hits)))
    return found if hits else {**found, "value": None}


if __name__ == "__main__":
    main()
