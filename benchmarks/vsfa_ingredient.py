"""What VSFA lives on: is it what the model was last told about danger?

    python -m safesight.testbed.train --work .checkpoints/testbed --out /tmp/testbed  # an hour
    python benchmarks/vsfa_ingredient.py --work .checkpoints/testbed

From the checkpoint of the stage `pictures` the later stages of the recipe are run again, once for
every dose: how many of the facts that `remind` adds (what kind of thing something is, whether
it is dangerous) are true. Everything else is as committed, so some three in a hundred dialogues
are true facts at any dose. At 1 this is the bundled model, at 0 a fact says nothing about its
thing; "none" has other text in place of facts. Then VSFA is fitted on each model, on threats, on
the matched neutral pictures and on a bare ground (the words without the threat), and asked what
`vsfa.py` asks.

If the effect hangs on the facts, attacks fall with the threat arm at dose 1 and not at 0.

Checkpoints of every dose are in the work folder, so that a killed run goes on. Writes
`docs/results/vsfa_ingredient.json` after every row.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from results_file import RESULTS, opened, saved
from vsfa import RECIPE, ROWS, TASKS, Trial, measured, short, summary

from safesight import VLM, registry
from safesight.judges.exact import ExactJudge
from safesight.testbed import WEIGHTS
from safesight.testbed.architecture import build_processor
from safesight.testbed.concepts import CONCEPTS
from safesight.testbed.curriculum import lengthy_dialogue, reminding_dialogue, text_dialogue
from safesight.testbed.dialogues import Dialogue, Lesson
from safesight.testbed.text_lessons import fact_about
from safesight.testbed.train import STAGES, run_stage

OUT = RESULTS / "vsfa_ingredient.json"
DOSES: dict[str, float | None] = {"1": 1.0, "0": 0.0, "none": None}
"""Of the facts, the share that is true; None is without facts."""
AFTER = STAGES[[stage.name for stage in STAGES].index("pictures") + 1 :]
ARMS = (
    Trial("none", "none"),
    Trial("threat"),
    *(Trial(arm, rows=arm) for arm in ("neutral", "blank")),
)


def main() -> None:
    """Make every model that is missing, then fit and ask."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="checkpoints of the recipe")
    parser.add_argument("--n", type=int, default=300, help="samples a task")
    parser.add_argument("--seeds", type=int, default=3, help="of VSFA; each dose is one model")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows VSFA trains on")
    parser.add_argument("--split", default="test", choices=("test", "calibration"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    head = {
        "identity": VLM.load(str(WEIGHTS)).identity,
        "n": arguments.n,
        "rows_to_train_on": arguments.rows,
        "recipe": RECIPE,
        "split": arguments.split,
        "judge": f"{ExactJudge.name}/{ExactJudge.version}",
    }
    check_work(arguments.work)
    results = opened(arguments.out, head)
    for dose in DOSES:
        begin = time.monotonic()
        vlm = VLM.load(str(model_of(dose, arguments.work)))
        results["seconds"] += round(time.monotonic() - begin)
        for seed, trial in product(range(arguments.seeds), ARMS):
            if any(
                (r["dose"], r["seed"], r["arm"]) == (dose, seed, trial.arm) for r in results["rows"]
            ):
                continue
            begin = time.monotonic()
            tests = {
                task: registry.load("benchmark", task)(
                    arguments.n, seed=seed, split=arguments.split
                )
                for task in TASKS
            }
            row, _ = measured(vlm, trial, seed, arguments.rows, tests)
            results["rows"].append({"dose": dose, "identity": vlm.identity, **row})
            results["seconds"] += round(time.monotonic() - begin)
            results["summary"] = by_dose(results["rows"])
            saved(arguments.out, results)
            print(f"dose {dose} seed {seed} {trial.arm}: {short(row)}", flush=True)


def by_dose(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The arms of every dose over all seeds."""
    return [
        {**line, "dose": dose}
        for dose in DOSES
        for line in summary([row for row in rows if row["dose"] == dose])
    ]


def check_work(work: Path) -> None:
    """Refuse checkpoints that did not lead to the bundled model: dose 1 would be another's."""
    from transformers import LlavaForConditionalGeneration

    last = work / STAGES[-1].name / "model"
    if not last.is_dir():
        raise SystemExit(f"{last} is missing: run the recipe with --work {work} first")
    found, bundled = (
        LlavaForConditionalGeneration.from_pretrained(path, dtype=torch.bfloat16).state_dict()
        for path in (last, WEIGHTS)
    )
    if not all(torch.equal(value, found[name]) for name, value in bundled.items()):
        raise SystemExit(f"{last} is not the bundled model: run the recipe with --work {work} anew")


def model_of(dose: str, work: Path) -> Path:
    """The model with this dose of facts: the stages behind `pictures`."""
    if DOSES[dose] == 1:
        return WEIGHTS
    from transformers import LlavaForConditionalGeneration

    folder = work / f"facts-{dose}"
    begun = work / "pictures" / "model"
    processor = build_processor()
    for stage in AFTER:
        done = folder / stage.name / "done.json"
        if not done.exists():
            torch.set_num_threads(2)
            model = LlavaForConditionalGeneration.from_pretrained(begun)
            dosed = stage
            if stage.dialogue in (reminding_dialogue, lengthy_dialogue):
                dosed = replace(stage, dialogue=partial(stage.dialogue, facts=facts(DOSES[dose])))
            entry = run_stage(dosed, model, processor, folder / stage.name, seed=0, scale=1.0)
            model.save_pretrained(folder / stage.name / "model")
            done.write_text(json.dumps(entry))
        begun = folder / stage.name / "model"
    plain = LlavaForConditionalGeneration.from_pretrained(begun)
    plain.to(torch.bfloat16).save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    return folder / "model"


def facts(true: float | None) -> Lesson:
    """Facts of which a share is true, or other text."""

    def told(rng: random.Random) -> Dialogue:
        thing = rng.choice(CONCEPTS)
        like = thing if rng.random() < (true or 0.0) else rng.choice(CONCEPTS)
        return fact_about(thing, like, rng)

    return text_dialogue if true is None else told


if __name__ == "__main__":
    main()
