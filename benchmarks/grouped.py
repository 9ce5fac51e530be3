"""What defenses do about things, harm categories and phrasings that their fit never saw.

    python benchmarks/grouped.py                     # see `seconds` in the results for how long
    python benchmarks/grouped.py --arms probe,sasa   # some of the arms; others can follow

Each split leaves a group out of everything that a defense is fitted on: every prompt that shows or
names one of its things, also the benign ones, and, for RAI, the words themselves. Prompts about
the group are then asked of that fit, and of the fits that left out another group. So each prompt
is asked unseen and seen, and the change is paired. Benign twins stay in the fits that leave out a
harm category, which has none.

The gates (`probe`, `sasa`) are fitted on the features that `benchmarks/sasa.py` reads and keeps on
disk, with three seeds; they change no answer, so the undefended ones are judged once. The others
answer the first prompts of every task with one fit each, at the settings of the artifacts that
ship: RAI's strength and ratio, which were chosen with all things in view, are not chosen again.
The methods that train (`npo`, `rmu`, `vsfa`) lose the rows about the group, and other rows take
their place; their questions are of other phrasings than the tasks' in any case.
Intervals are resampled over things and seeds.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gates
import numpy as np
import torch
from judged import table_mean
from results_file import RUNS, add_output, add_summarise, measured, opened, summarised
from sasa import FITTED, SEEDS, World, add_world, read_world
from under_test import head_of, loaded

from safesight import VLM
from safesight.defenses import FitData, load_defense
from safesight.defenses.probe import ProbeConfig
from safesight.defenses.rai.prototypes import words_for
from safesight.defenses.shared.block_gate import candidate_blocks
from safesight.fitting.bundled import bundled
from safesight.fitting.data import thing_of
from safesight.fitting.facts import Facts, matches
from safesight.grammar import judge_of_model
from safesight.stats import METRICS, MetricName
from safesight.testbed.concepts import CONCEPTS, HARMFUL_KINDS, concept
from safesight.testbed.language import PHRASINGS
from safesight.testbed.mirage import tuning_rows
from safesight.testbed.neutral import THINGS_JOINED, neutral_rows
from safesight.types import Sample, TuningSample
from safesight.workflows.artifacts import FitPlan, fit_data

TRAINED = ("npo", "rmu", "vsfa")
FEWER = "none, fewer prompts"
"""No defense on fewer prompts: what compares with the arms that are asked fewer."""
GATES = ("none", "probe", "sasa")
ARMS = (*GATES, "refusal_direction", "rai", "hidden_detect", "tool_vector", *TRAINED)
COUNTED: dict[str, MetricName] = {
    "attack_success": "attack_success_rate",
    "over_refusal": "over_refusal_rate",
    "benign_right": "utility",
}
WORDLESS = ("rai", *TRAINED)
"""Whose fits see no phrasing of the tasks, so there is none that they could miss."""
FOLDS = 4
TASKS = ("image_harm", "typographic_harm", "over_refusal", "sensitive_benign")
"""Undefended, the model refuses harmful requests in text, so there is nothing to stop."""
RAI: dict[str, Any] = {"layer": "embed", "ratio": 0.2, "strength": 16.0}
"""What the artifact that ships has chosen."""
ROWS, GENERAL, RHO = 2000, 1000, 0.95
"""Rows, rows of general data, and correlation of wording and label, of NPO and RMU that ship."""
THREATS, REPLAY = 1000, 101
"""Rows about threats and about other things, of VSFA that ships."""
MORE = 2
"""Rows drawn for each that is kept, so that as many remain."""
BATCH = 48


@dataclass(frozen=True)
class Split:
    """One group left out."""

    kind: str
    name: str
    facts: Facts


def main() -> None:
    """Fit and ask what is missing, and write the results after each split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_world(parser)
    parser.add_argument("--asked", type=int, default=80, help="test prompts per task to answer")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated")
    add_output(parser, "grouped")
    add_summarise(parser)
    arguments = parser.parse_args()
    if arguments.summarise:
        summarised(arguments.out, summarize)
        return
    vlm = loaded(arguments)
    head = {
        **head_of(arguments, vlm),
        "n": arguments.n,
        "asked": arguments.asked,
        "splits": {split.name: dict(split.facts) for split in splits()},
    }
    results = opened(arguments, head, cells=[], categories=[], summary=[])
    world = read_world(vlm, arguments, RUNS / "sasa.features")

    def measure(arm: str, split: Split) -> None:
        results["rows"] += list(asked(vlm, world, arm, split, arguments))

    done = {(row["arm"], row["name"]) for row in results["rows"]}
    parts = [
        (f"{arm}, {split.name}", partial(measure, arm, split))
        for arm in arguments.arms.split(",")
        for split in splits()
        if (arm, split.name) not in done and not (split.kind == "phrasing" and arm in WORDLESS)
    ]
    measured(arguments, results, parts, summarize)


def splits() -> list[Split]:
    """Four folds over things, each harm category, and the phrasings in two halves."""
    rng = random.Random(0)
    folds: list[list[str]] = [[] for _ in range(FOLDS)]
    for kind in dict.fromkeys(thing.kind for thing in CONCEPTS):
        names = [thing.name for thing in CONCEPTS if thing.kind == kind]
        rng.shuffle(names)
        for place, name in enumerate(names):
            folds[place % FOLDS].append(name)
    found = [Split("things", f"things {i + 1}", {"concept": fold}) for i, fold in enumerate(folds)]
    found += [Split("category", kind, {"category": [kind]}) for kind in HARMFUL_KINDS]
    phrasings = [*PHRASINGS]
    rng.shuffle(phrasings)
    for half in (0, 1):
        found.append(Split("phrasing", f"phrasings {half + 1}", {"phrasing": phrasings[half::2]}))
    return found


def prompts_of(test: Sequence[Sample], arm: str, n: int, asked: int) -> list[int]:
    """Rows of the test prompts that an arm is asked about: `n` or `asked` of each task."""
    count = n if arm in GATES else asked
    rows: list[int] = []
    for task in TASKS:
        of_task = [row for row, sample in enumerate(test) if sample.id.startswith(f"{task}/")]
        rows += of_task[:count]
    return rows


def asked(
    vlm: VLM, world: World, arm: str, split: Split, arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """One row per seed: a letter per prompt, as `gates.letter` writes it."""
    rows = prompts_of(world.test.prompts.samples, arm, arguments.n, arguments.asked)
    about = {"arm": arm, "kind": split.kind, "name": split.name}
    if arm in GATES:
        for seed in range(1 if arm == "none" else SEEDS):
            key, refused = gated(vlm, world, arm, split, seed)
            letters = gates.letters_of(world.test, refused)
            own = "".join(letters[row] for row in rows)
            yield {**about, "seed": seed, "key": key, "letters": own}
        return
    samples = [world.test.prompts.samples[row] for row in rows]
    yield {**about, "seed": 0, "letters": answered(vlm, arm, split, samples)}


def gated(vlm: VLM, world: World, arm: str, split: Split, seed: int) -> tuple[str, list[bool]]:
    """The block or pair, and whom the gate refuses."""
    if arm == "none":
        return "", [False] * len(world.test.verdicts)
    allowed = [
        row for row, sample in enumerate(world.pool.samples) if not matches(sample, split.facts)
    ]
    rows = sorted(random.Random(seed).sample(allowed, min(FITTED, len(allowed))))
    held_out = [
        row
        for row, sample in enumerate(world.calibration.samples)
        if not matches(sample, split.facts)
    ]
    known = world.pool.at(rows)
    blocks = [f"block {layer}" for layer in candidate_blocks(vlm.num_layers, ProbeConfig().layer)]
    key = world.pair if arm == "sasa" else gates.chosen(known, blocks, seed)
    gate = gates.fitted(known, key, world.calibration.at(held_out), seed)
    return key, gate.ask(world.test).refuse


def answered(vlm: VLM, arm: str, split: Split, samples: Sequence[Sample]) -> str:
    """The answers under a defense that was fitted without the split's group, as letters."""
    defense = load_defense(arm, **settings_of(vlm, arm, split))
    artifact = defense.fit(vlm, data_without(arm, split), seed=0, progress=False)
    judge, found = judge_of_model(vlm.name), ""
    with defense.apply(vlm, artifact):
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            texts = vlm.answer([sample.messages() for sample in batch], max_new_tokens=32)
            for text, sample in zip(texts, batch, strict=True):
                found += gates.letter(judge(text, sample), right=judge.correct(text, sample))
    return found


def settings_of(vlm: VLM, arm: str, split: Split) -> dict[str, Any]:
    """Settings of an arm: RAI loses words, and what trains is set as in the artifact that ships."""
    if arm == "rai":
        return {**RAI, "words": words_without(vlm, split)}
    return dict(bundled(arm, vlm).config) if arm in TRAINED else {}


def data_without(arm: str, split: Split) -> FitData:
    """What the arm is fitted on, without the split's group."""
    if arm not in TRAINED:
        return fit_data(FitPlan((*TASKS, "text_harm", "vqa"), 400, 0.25, 50, 0, split.facts))
    if arm == "vsfa":
        threats = rows_without(neutral_rows(THREATS * MORE, replay=0), split)
        replay = rows_without(neutral_rows(REPLAY * MORE, arm="neutral", replay=0), split)
        return FitData((), (), tuning=[*threats[:THREATS], *replay[:REPLAY]])
    rows = tuning_rows(ROWS * MORE, rho=RHO, harm="both", general=0)
    general = tuning_rows(0, harm="both", general=GENERAL * MORE)
    kept = [*rows_without(rows, split)[:ROWS], *rows_without(general, split)[:GENERAL]]
    return FitData((), (), tuning=kept)


def rows_without(rows: Sequence[TuningSample], split: Split) -> list[TuningSample]:
    """The rows whose picture shows, and whose request names, nothing of the group."""
    things = set(split.facts.get("concept", ()))
    kinds = split.facts.get("category", ())
    things |= {thing.name for thing in CONCEPTS if thing.kind in kinds}
    return [row for row in rows if things.isdisjoint((row.group or "").split(THINGS_JOINED))]


def words_without(vlm: VLM, split: Split) -> list[str]:
    """RAI's words, without the names of the things left out."""
    things = split.facts.get("concept", ()), split.facts.get("category", ())
    return [
        word
        for word in words_for(vlm.name)
        if word not in things[0] and concept(word).kind not in things[1]
    ]


def summarize(results: dict[str, Any]) -> None:
    """The tables: every prompt unseen and seen, and the paired change."""
    results |= {"cells": [], "categories": [], "summary": []}
    n, test = results["n"], gates.test_prompts(results["n"])
    measured = [*results["rows"], *undefended(results, test)]
    for arm in dict.fromkeys(row["arm"] for row in measured):
        samples = [test[row] for row in prompts_of(test, arm, n, results["asked"])]
        for kind in ("things", "category", "phrasing"):
            rows = [row for row in measured if (row["arm"], row["kind"]) == (arm, kind)]
            cells = list(compared(samples, rows, {"left_out": kind, "arm": arm}))
            results["cells"] += cells
            row = {f"{each['task']}/{each['metric']}": each for each in cells}
            results["summary"].append({"arm": f"{arm} {kind}", **row})
        for name in HARMFUL_KINDS:
            rows = [row for row in measured if (row["arm"], row["name"]) == (arm, name)]
            unseen = part(samples, rows, "attack_success", seen=False)
            if not np.isnan(unseen).all():
                cell = table_mean(unseen, [thing_of(sample) for sample in samples])
                about = {"arm": arm, "task": name, "metric": "attack_success"}
                results["categories"].append({**about, **cell})
                results["summary"].append({"arm": f"{arm} {name}", "unseen": cell})


def undefended(results: dict[str, Any], test: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """The rows of no defense on the prompts of those arms that are asked fewer."""
    whole, few = (prompts_of(test, arm, results["n"], results["asked"]) for arm in ("none", FEWER))
    kept = [whole.index(row) for row in few]
    for row in results["rows"]:
        if row["arm"] == "none":
            yield {**row, "arm": FEWER, "letters": "".join(row["letters"][at] for at in kept)}


def compared(
    samples: Sequence[Sample], rows: Sequence[dict[str, Any]], about: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Every metric, unseen, seen and the change."""
    things = [thing_of(sample) for sample in samples]
    for metric in COUNTED:
        unseen, seen = (part(samples, rows, metric, seen=seen) for seen in (False, True))
        if np.isnan(unseen).all() or np.isnan(seen).all():
            continue
        both = ~(np.isnan(unseen) | np.isnan(seen))
        unseen, seen = np.where(both, unseen, np.nan), np.where(both, seen, np.nan)
        for task, cell in (
            ("unseen", table_mean(unseen, things)),
            ("seen", table_mean(seen, things)),
            ("change", table_mean(unseen - seen, things, "delta")),
        ):
            yield {**about, "task": task, "metric": metric, **cell}


def part(
    samples: Sequence[Sample], rows: Sequence[dict[str, Any]], metric: str, *, seen: bool
) -> Any:
    """Seeds x prompts: the mean over the fits that did see a prompt's group, or did not."""
    facts = {split.name: split.facts for split in splits()}
    tables: dict[int, list[list[float]]] = {}
    for row in rows:
        outcomes = [
            outcome(char, sample, metric)
            if matches(sample, facts[row["name"]]) != seen
            else float("nan")
            for char, sample in zip(row["letters"], samples, strict=True)
        ]
        tables.setdefault(row["seed"], []).append(outcomes)
    with np.errstate(all="ignore"):
        return np.array([_mean(np.array(table)) for _, table in sorted(tables.items())])


def _mean(table: Any) -> Any:
    """Column means of what was measured; NaN where nothing was."""
    counts = (~np.isnan(table)).sum(axis=0)
    return np.where(counts > 0, np.nansum(table, axis=0) / np.maximum(counts, 1), np.nan)


def outcome(char: str, sample: Sample, metric: str) -> float:
    """1, 0, or NaN where the metric does not apply."""
    name = COUNTED[metric]
    if METRICS[name].about != sample.label:
        return float("nan")
    hit = METRICS[name].hit(gates.judgement(char))
    return float("nan") if hit is None else float(hit)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
