"""SASA and its controls on the bundled VLM: which numbers hold, and where they break.

    python benchmarks/sasa.py            # see `seconds` in the results for how long
    python benchmarks/sasa.py --n 60     # a quick look

Three arms stand side by side: the model as it is, the probe without projection, and
SASA. A gate never touches the answer of a prompt it lets through (a contract test
holds that bit for bit), so the undefended answers are generated and judged once and
each gate only has to be asked whom it refuses. Writes `runs/benchmarks/sasa.json` after every
seed; the same command resumes where it stopped.

Three questions, three seeds each:
kinds     fitted on all but one way of conveying the object; the one left out is unseen;
share     how much of the pool a fit needs: 0.5, 1, 2.5 and 5 percent, that is, 200 to 2,000
          prompts;
controls  shuffled labels, the other projection, logits instead of the hidden state, the settings
          of a re-implementation, no typographic pictures among the benign ones.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from judged import groups_of
from results_file import add_output, finished, opened, saved

from safesight import VLM, registry
from safesight.defenses import Defense, Detector, FitData, load_defense
from safesight.generation.calls import run_prefill
from safesight.judges.exact import ExactJudge
from safesight.stats import METRICS, Judgement, MetricName, clusters_of
from safesight.types import Sample, Verdict

HARM = ("text_harm", "image_harm", "typographic_harm")
BENIGN = ("over_refusal", "sensitive_benign", "vqa")
FORM = {"image_harm": "object", "typographic_harm": "word"}
POOL = {"text_harm": 5000, "image_harm": 5000, "typographic_harm": 5000}
POOL_BENIGN = {"over_refusal": 15000, "sensitive_benign": 5000, "vqa": 5000}
CALIBRATION = {"over_refusal": 450, "sensitive_benign": 150, "vqa": 150}
SHARES = (0.005, 0.01, 0.025)
BATCH = 48
REIMPLEMENTED: dict[str, Any] = {"feature": "logits", "C": 1.0, "standardize": False}
"""The settings of a re-implementation that differ from the defaults."""


@dataclass(frozen=True)
class Asked:
    """A test set with the undefended verdicts and, for utility questions, correctness."""

    samples: list[Sample]
    verdicts: list[Verdict]
    correct: list[bool]


def main() -> None:
    """Run the seeds that are missing and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=300, help="samples per task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="testbed")
    add_output(parser, "sasa")
    arguments = parser.parse_args()
    vlm = VLM.load(arguments.model)
    head = {
        "model": arguments.model,
        "identity": vlm.identity,
        "n": arguments.n,
        "judge": f"{ExactJudge.name}/{ExactJudge.version}",
        "pool": sum(POOL.values()) + sum(POOL_BENIGN.values()),
    }
    results = opened(arguments, head)
    for seed in range(arguments.seeds):
        if any(row["seed"] == seed for row in results["rows"]):
            continue
        begin = time.monotonic()
        test = {task: ask(vlm, task, arguments.n, seed) for task in (*HARM, *BENIGN)}
        fits = [fitted(vlm, trial, seed) for trial in trials(seed)]
        refused = gated(vlm, test, [detector for _, detector in fits])
        results["rows"].append({"seed": seed, "arm": "none", "left_out": "none", **score(test, {})})
        for (row, _), gate in zip(fits, refused, strict=True):
            results["rows"].append({"seed": seed, **row, **score(test, gate)})
        results["seconds"] += round(time.monotonic() - begin)
        saved(arguments.out, results)
        print(f"seed {seed}: {results['seconds']} s", flush=True)
    finished(arguments, results)


@dataclass(frozen=True)
class Trial:
    """One gate to fit."""

    arm: str
    defense: Defense
    data: FitData
    left_out: str = "none"


def trials(seed: int) -> list[Trial]:
    """Each kind of attack left out once, and none; sizes of the fit; controls."""
    arms = ("probe", "sasa")
    found = []
    for left_out in (None, *HARM):
        data = fit_data(seed, share=0.05, left_out=left_out)
        found += [Trial(arm, load_defense(arm), data, left_out or "none") for arm in arms]
    for share in SHARES:
        data = fit_data(seed, share=share)
        found += [Trial(f"{arm}, {share:.1%} of the pool", load_defense(arm), data) for arm in arms]
    data = fit_data(seed, share=0.05)
    no_objects = fit_data(seed, share=0.05, left_out="image_harm")
    no_words = replace(data, benign=[s for s in data.benign if s.facts["picture"] != "word"])
    return [
        *found,
        Trial("shuffled labels", load_defense("sasa"), shuffled(data, seed)),
        Trial("no benign words", load_defense("sasa"), no_words),
        Trial("f_on_s", load_defense("sasa", direction="f_on_s"), data),
        Trial("logits", load_defense("sasa", feature="logits"), data),
        Trial("re-implemented", load_defense("sasa", **REIMPLEMENTED), data),
        Trial("re-implemented", load_defense("sasa", **REIMPLEMENTED), no_objects, "image_harm"),
    ]


def fit_data(seed: int, *, share: float, left_out: str | None = None) -> FitData:
    """At most `share` of the pool, without the left-out harmful kind (and its benign twins)."""
    form = FORM.get(left_out or "")

    def keep(sample: Sample) -> bool:
        if left_out is None:
            return True
        if left_out == "text_harm":
            return sample.facts.get("form") not in {"plain", "caption", "beside"}
        return sample.facts.get("form") != form

    pool = [
        s
        for task, n in {**POOL, **POOL_BENIGN}.items()
        for s in registry.load("benchmark", task)(n, seed=seed, split="fit")
        if keep(s)
    ]
    calibration = [
        s
        for task, n in CALIBRATION.items()
        for s in registry.load("benchmark", task)(n, seed=seed, split="calibration")
        if keep(s)
    ]
    return FitData.from_pool(pool, calibration, share=share, seed=seed)


def shuffled(data: FitData, seed: int) -> FitData:
    """The same prompts with shuffled labels."""
    everything = [*data.harmful, *data.benign]
    random.Random(seed).shuffle(everything)
    cut = len(data.harmful)
    return replace(data, harmful=everything[:cut], benign=everything[cut:])


def ask(vlm: VLM, task: str, n: int, seed: int) -> Asked:
    """Undefended answers, judged."""
    samples = registry.load("benchmark", task)(n, seed=seed)
    judge = ExactJudge()
    answers: list[str] = []
    for start in range(0, n, BATCH):
        batch = [s.messages() for s in samples[start : start + BATCH]]
        answers += vlm.answer(batch, max_new_tokens=32)
    pairs = list(zip(answers, samples, strict=True))
    return Asked(samples, [judge(a, s) for a, s in pairs], [judge.correct(a, s) for a, s in pairs])


def fitted(vlm: VLM, trial: Trial, seed: int) -> tuple[dict[str, Any], Detector]:
    """Fit a gate; returns what is known about it before any test, and the gate."""
    artifact = trial.defense.fit(vlm, trial.data, seed=seed, progress=False)
    detector = trial.defense.build(vlm, artifact).detector
    assert detector is not None
    row = {
        "arm": trial.arm,
        "left_out": trial.left_out,
        "fitted": len(trial.data.harmful) + len(trial.data.benign),
        "share": round(trial.data.share or 0, 4),
        "layers": artifact.fitted.get("layers"),
        "validation_auroc": artifact.card["validation_auroc"]["value"],
        "calibration": artifact.card["calibration"],
    }
    return row, detector


def gated(
    vlm: VLM, test: Mapping[str, Asked], gates: Sequence[Detector]
) -> list[dict[str, list[bool]]]:
    """Which prompts each gate refuses, by task. All gates judge the same prefills."""
    sites = sorted({site for gate in gates for site in gate.sites})
    start = min(gate.replay_from for gate in gates if gate.replay_from is not None)
    refused: list[dict[str, list[bool]]] = [{task: [] for task in test} for _ in gates]
    for task, asked in test.items():
        for i in range(0, len(asked.samples), BATCH):
            inputs = vlm.encode([s.messages() for s in asked.samples[i : i + BATCH]])
            _, prefill = run_prefill(vlm, dict(inputs), sites, start)
            with torch.no_grad():
                for gate, found in zip(gates, refused, strict=True):
                    found[task] += gate.judge(prefill).refuse.tolist()
    return refused


def score(test: Mapping[str, Asked], refused: Mapping[str, list[bool]]) -> dict[str, Any]:
    """Attack success of each kind, over-refusal and right answers, with intervals over things."""
    cells: dict[str, Any] = {}
    for task, asked in test.items():
        gate = refused.get(task, [False] * len(asked.samples))
        answers = [
            Judgement("refused") if closed else Judgement(verdict, right)
            for verdict, right, closed in zip(asked.verdicts, asked.correct, gate, strict=True)
        ]
        things = clusters_of(groups_of(asked.samples))
        for name in metrics(task):
            cells[f"{task}/{name}"] = METRICS[name].rate(answers, things).rounded()
    return {"cells": cells}


def metrics(task: str) -> tuple[MetricName, ...]:
    """What is reported of a task."""
    if task in HARM:
        return ("attack_success_rate",)
    right: MetricName = "benign_utility" if task == "over_refusal" else "utility"
    return ("over_refusal_rate", right)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
