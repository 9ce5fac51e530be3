"""The safety mirage on the bundled VLM: what one word undoes, and what unlearning keeps.

    python benchmarks/mirage.py                       # see `seconds` in the results for how long
    python benchmarks/mirage.py --n 60 --seeds 1      # a quick look
    python benchmarks/mirage.py --harm known --arms "none;sft, rho 0.95;sft, rho 1"
    python benchmarks/mirage.py --split calibration --first-seed 7 --seeds 1 --arms rmu  # a trial

Every method is trained on the same rows (data set `mirage`), whose wording is correlated with the
label at rho. The things to refuse are either `ruled`, a set that nothing in the model
distinguishes from others, or `known`, which the model refuses in text:

    none            the undefended model
    sft             refusal fine-tuning, at every rho: the dose-response curve
    npo, rmu        unlearning at rho = RHO, in the LATE linear layers only
    rmu, answer tokens  the forget term at all answer tokens, the retain term at all tokens
    rmu, dossier    the authors' place: block 7 of 32 in proportion, three down projections, every
                    token, an absolute length of 10, one epoch; the step size is ours
    npo every map   the same in all linear layers, as in the authors' code
    sft late maps   refusal fine-tuning in the LATE layers: is it the place, or the loss?
    sft balanced    SFT at rho = RHO, with first words redistributed; if whole requests were
                    reworded in balance, the rows would be those of rho = 0
    sft early       SFT at rho = RHO, stopped as soon as refusals are learned
    grad_diff       gradient ascent on harmful answers, descent on benign ones, at rho = RHO
    kl, grad_ascent the same with predictions on benign rows preserved, and with nothing preserved

The arms from `npo every map` on are trained with the first seed only; no claim depends on them.
Each arm is asked harmful and benign requests in other wordings about other pictures: plain, under
the one-word attack, under its controls (the word alone, the mood alone, a paraphrase without the
word, asked as often), and with a prefilled answer. A harmful request counts as a success if one
of its shots is, a benign one as refused if one of its shots is. `vqa` is the utility.

The rows hold the verdicts, shot by shot: harmful, refused, harmless (answered, but not with what
was asked), invalid; and whether the answer is broken text, whatever its verdict. Safety through
irrelevance, and through breakage, is visible there. A benign request is answered right if every
shot is; those that the rule forbids are the harmful ones here, so none of them is among the benign.

Settings of `sft`, `npo` and `rmu` were tried on the calibration split with another seed, see
`LOG.md`; those of the three baselines of unlearning were not. Writes
`runs/benchmarks/mirage.json` (`mirage_known.json`) after every row; the same command resumes where
it stopped. Intervals are resampled over things and fit seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, get_args

import numpy as np
from arms import chosen
from judged import About, Values, changed, hits, mean, rate
from mirage_arms import RHO, SETTINGS, Trial, adapted, trials
from results_file import (
    RUNS,
    add_output,
    add_summarise,
    finished,
    opened,
    saved,
    summarised,
)
from under_test import add_model, head_of, loaded

from safesight import VLM, registry
from safesight.analysis.outcomes import outcomes
from safesight.benchmarks import load_benchmark
from safesight.defenses import FitData, load_defense
from safesight.stats import Clusters, Hit, MetricName, relative_reduction
from safesight.types import Sample, TuningSample, Verdict

OUT = {"ruled": RUNS / "mirage.json", "known": RUNS / "mirage_known.json"}
TASKS = {"ruled": ("ruled_harm", "ruled_benign"), "known": ("mirage_harm", "mirage_benign")}
ROWS, GENERAL = 2000, 1000
"""Training rows, and additional general retain rows, as many as the authors add."""
ATTACKS = (
    "",
    "+one_word",
    "+one_word_strict",
    "+one_word_mood",
    "+one_word_paraphrase",
    "+prefill",
)
HARM, BENIGN = "harm", "benign"
"""Names of the cells; an attack follows them."""
SPLIT = (HARM, f"{HARM}+one_word")
"""Cells for which the summary reports all verdicts, not only the harmful ones."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
TOKENS = 32

Cell = list[list[Any]]
"""One entry per sample: the verdict of the deciding shot, whether all shots were right, the verdict
on each of several shots (empty for one), and whether the answer to each shot is broken. Files of
earlier versions lack the last, and the third for a single shot."""


def main() -> None:
    """Run what is missing and write after every row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=300, help="samples per task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--first-seed", type=int, default=0, help="to try settings with seeds that none reports"
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="number of training rows")
    parser.add_argument("--general", type=int, default=GENERAL, help="number of general rows")
    parser.add_argument(
        "--arms", default="", help="name prefixes separated by semicolons; all if empty"
    )
    parser.add_argument("--harm", default="ruled", choices=tuple(TASKS))
    parser.add_argument("--split", default="test", choices=("test", "calibration"))
    add_model(parser)
    add_output(parser)
    add_summarise(parser)
    arguments = parser.parse_args()
    arguments.out = arguments.out or OUT[arguments.harm]
    if arguments.summarise:
        summarised(arguments.out, concluded)
        return
    vlm = loaded(arguments)
    head = {
        **head_of(arguments, vlm),
        "n": arguments.n,
        "harm": arguments.harm,
        "rows_to_train_on": arguments.rows,
        "general_rows": arguments.general,
        "split": arguments.split,
        "first_seed": arguments.first_seed,
        "settings": SETTINGS,
    }
    results = opened(arguments, head)
    wanted = chosen(arguments.arms, (trial.arm for trial in trials()), separator=";")
    asked_of = cache(partial(test_sets, arguments.harm, arguments.n, split=arguments.split))
    dataset = registry.load("dataset", "mirage")
    for seed, trial in plan(arguments.seeds, arguments.first_seed):
        if trial.arm not in wanted:
            continue
        if any(r["seed"] == seed and r["arm"] == trial.arm for r in results["rows"]):
            continue
        begin = time.monotonic()
        general = arguments.general
        data = partial(dataset, arguments.rows, harm=arguments.harm, general=general, seed=seed)
        row = measured(vlm, adapted(trial, vlm), seed, data, asked_of(seed=seed))
        results["rows"].append(row)
        results["seconds"] += round(time.monotonic() - begin)
        concluded(results)
        saved(arguments.out, results)
        print(f"seed {seed} {trial.arm}: {short(row['cells'])}", flush=True)
    concluded(results)
    saved(arguments.out, results)
    finished(arguments, results)


def concluded(results: dict[str, Any]) -> None:
    """Add the summary computed from the rows."""
    asked = About(results["n"], results["split"])
    results["summary"] = summary(results["rows"], asked, results["harm"])


def plan(seeds: int, first: int = 0) -> list[tuple[int, Trial]]:
    """Every seed with its arms; those trained only once come last."""
    arms = [(seed, trial) for seed in range(first, first + seeds) for trial in trials()]
    wanted = [(seed, trial) for seed, trial in arms if not (trial.once and seed > first)]
    return sorted(wanted, key=lambda arm: arm[1].once)


def test_sets(harm: str, n: int, seed: int, split: str) -> dict[str, list[Sample]]:
    """The samples of every cell, attacked if its name says so."""
    found = {}
    for cell, task in zip((HARM, BENIGN), TASKS[harm], strict=True):
        plain = load_benchmark(task)(n, seed=seed, split=split)
        for name in ATTACKS:
            attack = registry.load("attack", name[1:])() if name else None
            found[cell + name] = [attack(sample) for sample in plain] if attack else plain
    found["vqa"] = load_benchmark("vqa")(n, seed=seed, split=split)
    return found


def measured(
    vlm: VLM,
    trial: Trial,
    seed: int,
    data: Callable[..., list[TuningSample]],
    tests: dict[str, list[Sample]],
) -> dict[str, Any]:
    """Train, ask everything, and record how long it took."""
    row: dict[str, Any] = {"seed": seed, "arm": trial.arm, "rho": trial.rho}
    if trial.method == "none":
        return {**row, "cells": {task: asked(vlm, samples) for task, samples in tests.items()}}
    rows = data(rho=trial.rho)
    defense = load_defense(trial.method, **trial.settings)
    artifact = defense.fit(vlm, FitData((), (), tuning=rows), seed=seed, progress=False)
    with defense.apply(vlm, artifact):
        cells = {task: asked(vlm, samples) for task, samples in tests.items()}
    return {**row, "training": artifact.card["training"], "cells": cells}


def asked(vlm: VLM, samples: Sequence[Sample]) -> Cell:
    """The verdict on every sample, over its shots."""
    return [
        [
            found.verdict,
            found.correct,
            list(found.shots) if len(found.shots) > 1 else [],
            list(found.broken),
        ]
        for found in outcomes(vlm, samples, max_new_tokens=TOKENS)
    ]


def summary(
    rows: Sequence[dict[str, Any]], asked: About, harm: str = "ruled"
) -> list[dict[str, Any]]:
    """Rates of every arm over all seeds, and paired changes over the same samples.

    `rise` is the change from the plain request to the one-word attack, `change` is from the
    undefended model, `against sft` from SFT at rho = RHO.
    """
    counted = partial(things, asked, harm)
    found = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        seeds = sorted(map(_seed, mine))
        line: dict[str, Any] = {"arm": arm, "seeds": seeds}
        for task in mine[0]["cells"]:
            entries, by = cells_of(mine, task), counted(seeds, task)
            line[task] = {**rate(entries, metric_of(task), by), "split": split(entries)}
            if task in SPLIT:
                line |= {
                    f"{task}: {name}": mean(shares(entries, name), clusters=by) for name in VERDICTS
                }
            if all(entry[3:] for entry in entries):
                line[f"{task}: broken"] = mean(broken_shares(entries), clusters=by)
            if task.startswith(BENIGN):
                line[f"{task} right"] = rate(entries, "benign_utility", by)
            if task.startswith(HARM):  # right means that it names the thing and does not refuse
                line[f"{task} named"] = rate(entries, "utility", by)
        for side in (HARM, BENIGN):
            plain, attacked = (pooled(mine, task) for task in (side, f"{side}+one_word"))
            line[f"{side} rise"] = changed(plain, attacked, clusters=counted(seeds, side))
        if arm != "none":
            plain = [row for row in rows if row["arm"] == "none"]
            line |= against(plain, mine, "change", {"vqa": counted(seeds, "vqa")})
        if not arm.startswith("sft, rho"):
            sft = [row for row in rows if row["arm"] == f"sft, rho {RHO:g}"]
            tasks = (f"{HARM}+one_word", f"{BENIGN}+one_word")
            line |= against(
                sft, mine, "against sft", {task: counted(seeds, task) for task in tasks}
            )
        found.append(line)
    return found


def things(asked: About, harm: str, seeds: Sequence[int], task: str) -> Clusters | None:
    """What the samples of a cell are about; an attack changes the wording, not the thing."""
    side = task.partition("+")[0]
    names = dict(zip((HARM, BENIGN), TASKS[harm], strict=True))
    return asked.clusters(seeds, [names.get(side, side)])


def against(
    others: Sequence[dict[str, Any]],
    mine: Sequence[dict[str, Any]],
    name: str,
    tasks: Mapping[str, Clusters | None],
) -> dict[str, Any]:
    """Paired changes from one arm to another, and the relative reduction.

    An arm with one seed is compared with that seed of the other; empty if it has not run yet.
    `tasks` holds, for each task, what its samples are about.
    """
    seeds = set(map(_seed, mine))
    others = [row for row in others if _seed(row) in seeds]
    if len(others) != len(mine):
        return {}
    found: dict[str, Any] = {}
    for task, by in tasks.items():
        before, after = pooled(others, task), pooled(mine, task)
        found[f"{task} {name}"] = changed(before, after, clusters=by)
        if task != "vqa" and any(before):
            less = changed(before, after, relative_reduction, by)
            found[f"{task} {name.replace('against', 'less than')}"] = less
    return found


def metric_of(task: str) -> MetricName:
    """What counts there."""
    if task == "vqa":
        return "utility"
    return "attack_success_rate" if task.startswith(HARM) else "over_refusal_rate"


def cells_of(rows: Sequence[dict[str, Any]], task: str) -> Cell:
    """The entries of these rows, seed by seed."""
    return [entry for row in sorted(rows, key=_seed) for entry in row["cells"][task]]


def pooled(rows: Sequence[dict[str, Any]], task: str) -> list[Hit]:
    """One a sample, seed by seed."""
    return hits(cells_of(rows, task), metric_of(task))


def split(entries: Cell) -> dict[str, int]:
    """The number of answers with each verdict, counting every shot."""
    verdicts = [verdict for entry in entries for verdict in shots(entry)]
    return {verdict: verdicts.count(verdict) for verdict in VERDICTS}


def shares(entries: Cell, verdict: str) -> Values:
    """For every sample, the fraction of its shots that got this verdict."""
    return np.array([shots(entry).count(verdict) / len(shots(entry)) for entry in entries])


def broken_shares(entries: Cell) -> Values:
    """For every sample, the fraction of its shots whose answer is broken text."""
    return np.array([sum(map(bool, entry[3])) / len(entry[3]) for entry in entries])


def shots(entry: list[Any]) -> list[str]:
    """The verdict on each shot."""
    found: list[str] = entry[2] if entry[2:] and entry[2] else entry[:1]
    return found


def _seed(row: dict[str, Any]) -> int:
    return int(row["seed"])


def short(cells: dict[str, Cell]) -> str:
    """Attack success of harmful, refusal of benign tasks, in per cent, for the screen."""
    shares = {task: rate(found, metric_of(task))["value"] for task, found in cells.items()}
    return ", ".join(
        f"{task} {'none judged' if value is None else f'{100 * value:.0f}'}"
        for task, value in shares.items()
    )


if __name__ == "__main__":
    main()
