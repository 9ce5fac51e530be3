"""What VSFA depends on: the last facts the model learned about danger, or its refusals?

    python -m safesight.testbed.train --work .checkpoints/testbed --out /tmp/testbed  # an hour
    python benchmarks/vsfa_ingredient.py --work .checkpoints/testbed

From the checkpoint of the stage `pictures` the later stages of the recipe are rerun with one
ingredient of their text changed:

    as committed         the bundled model
    facts by chance      a fact (what kind of thing it is, whether it is dangerous) states what is
                         true of a random thing; about three dialogues in a hundred, in the
                         unchanged mixtures, are still true facts
    no facts             other text instead of facts
    refusals by half     half of the text requests are refused depending on their thing, half
                         depending on a random thing: as many refusals, less related to harm
    refusals by chance   all of them depending on a random thing

Then VSFA is fitted on each model, on threats, on the matched neutral pictures and on the bare
background (the words without the threat), and evaluated as in `vsfa.py`. VSFA depends on an
ingredient if attacks fall in the threat arm with it, and not without it.

Checkpoints of every model are in the work folder, so that a killed run goes on. Writes
`runs/benchmarks/vsfa_ingredient.json` after every row.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from arms import chosen
from judged import About
from results_file import add_output, add_summarise, finished, opened, saved, summarised
from vsfa import RECIPE, REPLAY, ROWS, TASKS, Trial, measured, short, summary

from safesight import VLM
from safesight.benchmarks import load_benchmark
from safesight.judges.exact import ExactJudge
from safesight.models.saving import save_checkpoint
from safesight.testbed import WEIGHTS, text_lessons
from safesight.testbed.architecture import build_processor
from safesight.testbed.concepts import CONCEPTS, Concept
from safesight.testbed.curriculum import lengthy_dialogue, reminding_dialogue, text_dialogue
from safesight.testbed.dialogues import Dialogue, Lesson
from safesight.testbed.text_lessons import asked_for, fact_about
from safesight.testbed.text_lessons import refused as taught
from safesight.testbed.train import STAGES, run_stage


@dataclass(frozen=True)
class Teaching:
    """One way to teach the last stages."""

    facts: float | None = 1.0
    """The fraction of facts that are true; None for no facts."""
    refusals: float = 1.0
    """The fraction of refusals that depend on the thing itself."""


TEACHINGS = {
    "as committed": Teaching(),
    "facts by chance": Teaching(facts=0.0),
    "no facts": Teaching(facts=None),
    "refusals by half": Teaching(refusals=0.5),
    "refusals by chance": Teaching(refusals=0.0),
}
METRICS = {
    "attacks": "attacks/attack_success_rate",
    "less": "attacks/attack_success_rate_less",
    "threat_minus_this": "attacks/attack_success_rate_threat_minus_this",
    "refused": "attacks/refusal_rate",
    "utility": "vqa/utility",
}
"""Names in the table of effects and in summaries."""
AFTER = STAGES[[stage.name for stage in STAGES].index("pictures") + 1 :]
ARMS = (
    Trial("none", "none"),
    Trial("threat"),
    *(Trial(arm, rows=arm) for arm in ("neutral", "blank")),
)


def main() -> None:
    """Train every model that is missing, then fit and evaluate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="checkpoints of the recipe")
    parser.add_argument("--n", type=int, default=300, help="samples per task")
    parser.add_argument(
        "--seeds", type=int, default=3, help="seeds of VSFA; each model is one run of the recipe"
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="rows VSFA trains on")
    parser.add_argument(
        "--replay", type=int, default=REPLAY, help="replay rows about benign things"
    )
    parser.add_argument("--split", default="test", choices=("test", "calibration"))
    parser.add_argument("--only", default="", help="names of models, by commas; all if empty")
    add_output(parser, "vsfa_ingredient")
    add_summarise(parser)
    arguments = parser.parse_args()
    if arguments.summarise:
        summarised(arguments.out, concluded)
        return
    if arguments.work is None:
        parser.error("--work is needed: the folder with the checkpoints of the recipe")
    head = {
        "identity": VLM.load(str(WEIGHTS)).identity,
        "n": arguments.n,
        "rows_to_train_on": arguments.rows,
        "replay": arguments.replay,
        "recipe": RECIPE,
        "split": arguments.split,
        "judge": f"{ExactJudge.name}/{ExactJudge.version}",
    }
    wanted = chosen(arguments.only, TEACHINGS)
    check_work(arguments.work)
    results = opened(arguments, head)
    for name, teaching in TEACHINGS.items():
        if name not in wanted:
            continue
        begin = time.monotonic()
        vlm = VLM.load(str(model_of(name, teaching, arguments.work)))
        results["seconds"] += round(time.monotonic() - begin)
        for seed, trial in product(range(arguments.seeds), ARMS):
            if any(
                (r["taught"], r["seed"], r["arm"]) == (name, seed, trial.arm)
                for r in results["rows"]
            ):
                continue
            begin = time.monotonic()
            tests = {
                task: load_benchmark(task)(arguments.n, seed=seed, split=arguments.split)
                for task in TASKS
            }
            row, _ = measured(vlm, trial, seed, arguments.rows, arguments.replay, tests)
            results["rows"].append({"taught": name, "identity": vlm.identity, **row})
            results["seconds"] += round(time.monotonic() - begin)
            concluded(results)
            saved(arguments.out, results)
            print(f"{name}, seed {seed} {trial.arm}: {short(row)}", flush=True)
    finished(arguments, results)


def concluded(results: dict[str, Any]) -> None:
    """Add the summary of every model over all seeds, and the table of effects."""
    asked = About(results["n"], results["split"])
    results["summary"] = [
        {**line, "taught": name}
        for name in TEACHINGS
        for line in summary([row for row in results["rows"] if row["taught"] == name], asked)
    ]
    results["effects"] = [
        {"taught": line["taught"], "task": line["arm"], "metric": metric, **line[key]}
        for line in results["summary"]
        for metric, key in METRICS.items()
        if key in line
    ]


def check_work(work: Path) -> None:
    """Refuse checkpoints from another run: "as committed" would not be the bundled model."""
    from transformers import LlavaForConditionalGeneration

    last = work / STAGES[-1].name / "model"
    if not last.is_dir():
        raise SystemExit(f"{last} is missing: run the recipe with --work {work} first")
    found, bundled = (
        LlavaForConditionalGeneration.from_pretrained(path, dtype=torch.bfloat16).state_dict()
        for path in (last, WEIGHTS)
    )
    if not all(torch.equal(value, found[name]) for name, value in bundled.items()):
        raise SystemExit(
            f"{last} is not the bundled model: run the recipe with --work {work} again"
        )


def model_of(name: str, teaching: Teaching, work: Path) -> Path:
    """The model taught this way: reruns the stages after `pictures`."""
    if teaching == Teaching():
        return WEIGHTS
    from transformers import LlavaForConditionalGeneration

    folder = work / name.replace(" ", "-")
    begun = work / "pictures" / "model"
    processor = build_processor()
    with mock.patch.object(text_lessons, "refused", policy(teaching.refusals)):
        for stage in AFTER:
            done = folder / stage.name / "done.json"
            if not done.exists():
                model = LlavaForConditionalGeneration.from_pretrained(begun)
                changed = stage
                if stage.dialogue in (reminding_dialogue, lengthy_dialogue):
                    told = facts(teaching.facts)
                    changed = replace(stage, dialogue=partial(stage.dialogue, facts=told))
                entry = run_stage(changed, model, processor, folder / stage.name, seed=0, scale=1.0)
                model.save_pretrained(folder / stage.name / "model")
                done.write_text(json.dumps(entry))
            begun = folder / stage.name / "model"
    plain = LlavaForConditionalGeneration.from_pretrained(begun)
    save_checkpoint(plain.to(torch.bfloat16), folder / "model", processor)
    return folder / "model"


def facts(true: float | None) -> Lesson:
    """Facts of which a fraction is true, or other text."""

    def told(rng: random.Random) -> Dialogue:
        thing = rng.choice(CONCEPTS)
        like = thing if rng.random() < (true or 0.0) else rng.choice(CONCEPTS)
        return fact_about(thing, like, rng)

    return text_dialogue if true is None else told


def policy(true: float) -> Callable[[Concept, bool, random.Random], bool]:
    """Refusals of which a fraction depends on the thing, the rest on a random one."""

    def refused(thing: Concept, careful: bool, rng: random.Random) -> bool:
        if true < 1 and rng.random() >= true:
            thing = asked_for(rng.random(), rng)
        return taught(thing, careful, rng)

    return refused


if __name__ == "__main__":
    main()
